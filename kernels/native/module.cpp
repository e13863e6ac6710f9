// The Python module shoal_native: the engine, whose methods check their arguments, let go of the GIL and compute.
#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <system_error>

#include "border.hpp"
#include "float_mode.hpp"
#include "gil.hpp"
#include "operands.hpp"
#include "pool.hpp"
#include "top_k.hpp"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace shoal {
namespace {

// The variants that were built and that this machine can run, best first.
std::vector<const Kernels*> usable() {
  std::vector<const Kernels*> found;
#if defined(__x86_64__)
  __builtin_cpu_init();
  [[maybe_unused]] unsigned a = 0, b = 0, c = 0, d = 0;
  [[maybe_unused]] const bool half = __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
  [[maybe_unused]] const bool v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                                   __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2") && half;
#ifdef SHOAL_HAVE_AVX512
  if (v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512vnni"))
    found.push_back(&kernels_avx512);
#endif
#ifdef SHOAL_HAVE_AVX2
  if (v3) found.push_back(&kernels_avx2);
#endif
#endif
  found.push_back(&kernels_portable);
  return found;
}

const Kernels& kernels_named(const std::string& name) {
  std::string known;
  for (const Kernels* each : usable()) {
    if (name == each->name) return *each;
    known += (known.empty() ? "" : ", ") + std::string(each->name);
  }
  throw std::invalid_argument("name: this machine can run " + known + ", not '" + name + "'");
}

struct Free {
  void operator()(char* memory) const { std::free(memory); }
};

// One variant with its threads and scratch memory. Calls from several threads take turns.
class Engine {
 public:
  Engine(const std::string& name, int threads) : kernels_(kernels_named(name)) {
    require(threads >= 1 && threads <= 1024, "threads: expected 1 to 1024, got " + std::to_string(threads));
    try {
      pool_ = std::make_unique<Pool>(threads);
    } catch (const std::system_error& error) {
      throw std::runtime_error("threads: the system refuses " + std::to_string(threads) + " (" + error.what() + ")");
    }
  }

  std::string name() const { return kernels_.name; }
  int threads() const { return pool_->threads(); }

  void quantize(nb::handle x, nb::handle values, nb::handle scale) {
    auto in = checked<const float>(x, "x", {kAny, kAny});
    require(in.shape[1] > 0, "x: expected at least one channel");
    auto out = activations<int8_t, float>(values, scale, in.shape[0], in.shape[1]);
    compute([&](char* memory) { kernels_.quantize(*pool_, in.data, rows(in), width(in), out.at(memory)); }, out.bytes());
  }

  void norm(nb::handle x, nb::handle weight, double eps, nb::handle y) {
    auto in = checked<const float>(x, "x", {kAny, kAny});
    auto by = checked<const float>(weight, "weight", {in.shape[1]});
    auto out = checked<float>(y, "out", {in.shape[0], in.shape[1]});
    compute([&](char*) {
      kernels_.norm(*pool_, in.data, by.data, rows(in), width(in), static_cast<float>(eps), out.data);
    });
  }

  void norm_quantize(nb::handle x, nb::handle weight, double eps, nb::handle values, nb::handle scale) {
    auto in = checked<const float>(x, "x", {kAny, kAny});
    auto by = checked<const float>(weight, "weight", {in.shape[1]});
    auto out = activations<int8_t, float>(values, scale, in.shape[0], in.shape[1]);
    compute(
        [&](char* memory) {
          kernels_.norm_quantize(*pool_, in.data, by.data, rows(in), width(in), static_cast<float>(eps), out.at(memory));
        },
        out.bytes());
  }

  void gated_quantize(nb::handle gate_up, nb::handle values, nb::handle scale) {
    auto in = checked<const float>(gate_up, "gate_up", {kAny, kAny});
    require(in.shape[1] > 0 && in.shape[1] % 2 == 0,
            "gate_up: expected gate and up of one width, got " + std::to_string(in.shape[1]) + " channels");
    auto out = activations<int8_t, float>(values, scale, in.shape[0], in.shape[1] / 2);
    compute([&](char* memory) { kernels_.gated_quantize(*pool_, in.data, rows(in), width(in) / 2, out.at(memory)); },
            out.bytes());
  }

  void linear(nb::handle values, nb::handle scale, const PyMatrix& matrix, nb::handle y) {
    auto any = checked<const int8_t>(values, "values", {kAny, kAny});
    auto in = activations<const int8_t, const float>(values, scale, any.shape[0], matrix.view.in);
    auto out = checked<float>(y, "out", {any.shape[0], matrix.view.out});
    compute(
        [&](char* memory) {
          kernels_.starts(*pool_, in.at(memory));
          kernels_.linear(*pool_, in.at(memory), matrix.view, nullptr, out.data);
        },
        in.bytes());
  }

  void rope(nb::handle x, nb::handle cos, nb::handle sin, nb::handle y) {
    auto in = checked<const float>(x, "x", {kAny, kAny, kAny});
    require(in.shape[2] % 2 == 0, "x: expected an even head_dim, got " + std::to_string(in.shape[2]));
    auto c = checked<const float>(cos, "cos", {in.shape[0], in.shape[2] / 2});
    auto s = checked<const float>(sin, "sin", {in.shape[0], in.shape[2] / 2});
    auto out = checked<float>(y, "out", {in.shape[0], in.shape[1], in.shape[2]});
    compute([&](char*) {
      kernels_.rope(*pool_, in.data, c.data, s.data, rows(in), width(in), static_cast<int>(in.shape[2]), out.data);
    });
  }

  void write_kv(nb::handle k, nb::handle v, const PyRows& rows, nb::handle k_pages, nb::handle v_pages) {
    auto keys = checked<const float>(k, "k", {rows.count(), kAny, kAny});
    auto values = checked<const float>(v, "v", {rows.count(), keys.shape[1], keys.shape[2]});
    const auto pages = both_pages(k_pages, v_pages, keys.shape[1], keys.shape[2], rows);
    const Shape shape{0, static_cast<int>(keys.shape[1]), static_cast<int>(keys.shape[2]), 0, 0, 0};
    compute([&](char*) {
      kernels_.write_kv(*pool_, keys.data, values.data, keys.shape[1] * keys.shape[2], rows.view(), shape, pages);
    });
  }

  void attention(nb::handle q, const PyRows& rows, nb::handle k_pages, nb::handle v_pages, int window, double softcap,
                 nb::handle y) {
    auto queries = checked<const float>(q, "q", {rows.count(), kAny, kAny});
    const int64_t heads = queries.shape[1], head_dim = queries.shape[2];
    require(heads > 0 && head_dim > 0 && head_dim <= kMostHeadDim,
            "q: expected a head_dim of up to " + std::to_string(kMostHeadDim) + ", got " + shape_text(queries.shape));
    auto k_any = checked<Half>(k_pages, "k_pages", {kAny, kAny, kPage, head_dim});
    const int64_t kv_heads = k_any.shape[1];
    require(kv_heads > 0 && heads % kv_heads == 0,
            "q: " + std::to_string(heads) + " heads cannot share " + std::to_string(kv_heads) + " key-value heads");
    require(window >= 0 && softcap >= 0, "window and softcap: expected none or more than 0");
    const auto pages = both_pages(k_pages, v_pages, kv_heads, head_dim, rows);
    auto out = checked<float>(y, "out", {rows.count(), heads * head_dim});
    const Shape shape{static_cast<int>(heads), static_cast<int>(kv_heads), static_cast<int>(head_dim), 0, window,
                      static_cast<float>(softcap)};
    compute([&](char*) {
      kernels_.attention(*pool_, queries.data, heads * head_dim, rows.view(), shape, pages, out.data);
    });
  }

  void embedding_rows(const PyMatrix& table, nb::handle token_ids, nb::handle y) {
    auto ids = checked<const int64_t>(token_ids, "token_ids", {kAny});
    auto out = checked<float>(y, "out", {ids.shape[0], table.view.in});
    for (int64_t i = 0; i < ids.shape[0]; ++i)
      require(ids.data[i] >= 0 && ids.data[i] < table.view.out,
              "token_ids: " + std::to_string(ids.data[i]) + " is not one of " + std::to_string(table.view.out));
    compute([&](char*) { kernels_.embedding_rows(*pool_, table.view, ids.data, rows(ids), out.data); });
  }

  void top_k(nb::handle logits, nb::handle values, nb::handle ids) {
    auto in = checked<const float>(logits, "logits", {kAny, kAny});
    auto best = checked<float>(values, "values", {in.shape[0], kAny});
    auto where = checked<int64_t>(ids, "ids", {in.shape[0], best.shape[1]});
    const int64_t width = in.shape[1], k = best.shape[1];
    require(k <= width, "k: expected at most " + std::to_string(width) + ", got " + std::to_string(k));
    compute([&](char*) {
      for (int64_t row = 0; row < in.shape[0]; ++row)  // on this thread: tasks of the pool must not throw
        shoal::top_k(in.data + row * width, width, k, best.data + row * k, where.data + row * k);
    });
  }

  void block(nb::handle x, const PyBlock& block, const PyRows& rows, nb::handle cos, nb::handle sin, nb::handle k_pages,
             nb::handle v_pages, nb::handle y) {
    const Shape& shape = block.view.shape;
    auto in = checked<const float>(x, "x", {rows.count(), block.view.qkv.in});
    auto c = checked<const float>(cos, "cos", {rows.count(), shape.head_dim / 2});
    auto s = checked<const float>(sin, "sin", {rows.count(), shape.head_dim / 2});
    const auto pages = both_pages(k_pages, v_pages, shape.kv_heads, shape.head_dim, rows);
    auto out = checked<float>(y, "out", {rows.count(), block.view.qkv.in});
    require(rows.count() == 0 || in.data != out.data, "out: expected other memory than x");
    compute(
        [&](char* memory) {
          kernels_.block(*pool_, in.data, block.view, rows.view(c.data, s.data), pages, memory, out.data);
        },
        kernels_.block_scratch(block.view, static_cast<int>(rows.count())));
  }

  // The sum of a buffer's 64-bit words: what reading costs. For benchmarks.
  uint64_t read_sum(nb::handle buffer) {
    auto bytes = checked<const uint8_t>(buffer, "buffer", {kAny});
    constexpr int64_t kPiece = 1 << 19;
    std::atomic<uint64_t> total{0};
    compute([&](char*) {
      parallel(*pool_, static_cast<int>((bytes.shape[0] + kPiece - 1) / kPiece), [&](int piece) {
        const int64_t first = piece * kPiece, end = std::min(first + kPiece, bytes.shape[0] / 8 * 8);
        uint64_t sum = 0, word;
        for (int64_t at = first; at < end; at += 8) {
          std::memcpy(&word, bytes.data + at, 8);
          sum += word;
        }
        total += sum;
      });
    });
    return total;
  }

 private:
  template <typename V, typename S>
  struct Checked {
    Array<V> values;
    Array<S> scale;
    size_t bytes() const { return scale.shape[0] * scale.shape[1] * sizeof(int32_t); }
    Activations at(char* memory) const {
      return {const_cast<int8_t*>(values.data), const_cast<float*>(scale.data), reinterpret_cast<int32_t*>(memory),
              static_cast<int>(scale.shape[0]), static_cast<int>(scale.shape[1])};
    }
  };

  template <typename V, typename S>
  static Checked<V, S> activations(nb::handle values, nb::handle scale, int64_t rows, int64_t width) {
    const int64_t groups = (width + kGroup - 1) / kGroup;
    return {checked<V>(values, "values", {rows, groups * kGroup}), checked<S>(scale, "scale", {rows, groups})};
  }

  static Pages both_pages(nb::handle k, nb::handle v, int64_t kv_heads, int64_t head_dim, const PyRows& rows) {
    auto keys = checked<Half>(k, "k_pages", {kAny, kv_heads, kPage, head_dim});
    auto values = checked<Half>(v, "v_pages", {keys.shape[0], kv_heads, kPage, head_dim});
    require(rows.most_page < keys.shape[0], "rows: page " + std::to_string(rows.most_page) + " is not one of " +
                                                std::to_string(keys.shape[0]) + " in k_pages");
    return {&keys.data->bits, &values.data->bits};
  }

  template <typename A>
  static int rows(const A& array) {
    return static_cast<int>(array.shape[0]);
  }
  template <typename A>
  static int width(const A& array) {
    return static_cast<int>(array.shape[1]);
  }

  template <typename Function>
  void compute(const Function& function, size_t scratch = 0) {
    WithoutGil released;
    std::lock_guard<std::mutex> turn(mutex_);
    if (scratch > scratch_bytes_) {
      scratch_.reset();
      scratch_bytes_ = 0;
      const size_t size = (scratch + scratch / 4 + 4095) / 4096 * 4096;
      scratch_.reset(static_cast<char*>(std::aligned_alloc(4096, size)));
      if (!scratch_) throw std::bad_alloc();
      scratch_bytes_ = size;
    }
    FloatMode mode;
    function(scratch_.get());
  }

  const Kernels& kernels_;
  std::unique_ptr<Pool> pool_;
  std::mutex mutex_;
  std::unique_ptr<char, Free> scratch_;
  size_t scratch_bytes_ = 0;
};

}  // namespace

NB_MODULE(shoal_native, module) {
  nb::set_leak_warnings(false);  // engines that live until the process ends are no leak
  const auto any = [](const char* name) { return nb::arg(name).none(); };  // None too, which is then refused by name
  module.doc() = "The arithmetic of profile c8 in C++; see kernels.native.";
  module.def("variants", [] {
    nb::list names;
    for (const Kernels* each : usable()) names.append(each->name);
    return names;
  });
  nb::class_<PyMatrix>(module, "Matrix")
      .def(nb::init<nb::handle, nb::handle, int64_t, int64_t>(), any("data"), any("bias"), nb::arg("out"),
           nb::arg("in_features"));
  nb::class_<PyBlock>(module, "Block")
      .def(nb::init<nb::handle, const PyMatrix&, nb::handle, nb::handle, const PyMatrix&, nb::handle, const PyMatrix&,
                    const PyMatrix&, int, int, int, double, int, double>(),
           any("norm1"), nb::arg("qkv"), any("q_norm"), any("k_norm"), nb::arg("o"),
           any("norm2"), nb::arg("gate_up"), nb::arg("down"), nb::arg("heads"), nb::arg("kv_heads"),
           nb::arg("head_dim"), nb::arg("eps"), nb::arg("window"), nb::arg("softcap"));
  nb::class_<PyRows>(module, "Rows").def(nb::init<const nb::list&>(), nb::arg("seats"));
  nb::class_<Engine>(module, "Engine")
      .def(nb::init<const std::string&, int>(), nb::arg("name"), nb::arg("threads"))
      .def_prop_ro("name", &Engine::name)
      .def_prop_ro("threads", &Engine::threads)
      .def("quantize", &Engine::quantize, any("x"), any("values"), any("scale"))
      .def("norm", &Engine::norm, any("x"), any("weight"), nb::arg("eps"), any("out"))
      .def("norm_quantize", &Engine::norm_quantize, any("x"), any("weight"), nb::arg("eps"), any("values"), any("scale"))
      .def("gated_quantize", &Engine::gated_quantize, any("gate_up"), any("values"), any("scale"))
      .def("linear", &Engine::linear, any("values"), any("scale"), nb::arg("matrix"), any("out"))
      .def("rope", &Engine::rope, any("x"), any("cos"), any("sin"), any("out"))
      .def("write_kv", &Engine::write_kv, any("k"), any("v"), nb::arg("rows"), any("k_pages"), any("v_pages"))
      .def("attention", &Engine::attention, any("q"), nb::arg("rows"), any("k_pages"), any("v_pages"), nb::arg("window"), nb::arg("softcap"), any("out"))
      .def("embedding_rows", &Engine::embedding_rows, nb::arg("table"), any("token_ids"), any("out"))
      .def("top_k", &Engine::top_k, any("logits"), any("values"), any("ids"))
      .def("block", &Engine::block, any("x"), nb::arg("block"), nb::arg("rows"), any("cos"), any("sin"), any("k_pages"), any("v_pages"), any("out"))
      .def("read_sum", &Engine::read_sum, any("buffer"));
}

}  // namespace shoal
