// The border to Python: arrays that come in are checked here, by name, before anybody follows a pointer.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>

#include <cstdint>
#include <initializer_list>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

namespace shoal {

namespace nb = nanobind;

struct Half {
  uint16_t bits;
};

template <typename T>
nb::dlpack::dtype dtype_of() {
  if constexpr (std::is_same_v<T, Half>) {
    return {static_cast<uint8_t>(nb::dlpack::dtype_code::Float), 16, 1};
  } else {
    return nb::dtype<T>();
  }
}

inline std::string name_of(nb::dlpack::dtype type) {
  const char* kinds[] = {"int", "uint", "float", "opaque", "bfloat", "complex", "bool"};
  const size_t code = static_cast<size_t>(type.code);
  return (code == 6 ? "bool" : (code < 6 ? kinds[code] : "type") + std::to_string(type.bits));
}

inline constexpr int64_t kAny = -1;  // a dimension of whatever length

template <typename Shape>
std::string shape_text(const Shape& shape) {
  std::string text = "[";
  for (int64_t length : shape) {
    if (text.size() > 1) text += ", ";
    text += length == kAny ? "any" : std::to_string(length);
  }
  return text + "]";
}

// An array that was checked: what it holds, and the object that keeps it alive.
template <typename T>
struct Array {
  T* data = nullptr;
  std::vector<int64_t> shape;
  nb::object owner;
};

// ``object`` as a C-contiguous array of T in this machine's memory with the given shape; one that may be written where T
// is not const. Raises TypeError and ValueError that name the argument, what was expected and what came.
template <typename T>
Array<T> checked(nb::handle object, const char* name, std::initializer_list<int64_t> wanted) {
  using Element = std::remove_const_t<T>;
  using Any = std::conditional_t<std::is_const_v<T>, nb::ndarray<nb::ro>, nb::ndarray<>>;
  Any array;
  if (object.is_none() || !nb::try_cast<Any>(object, array) || !array.is_valid())
    throw nb::type_error((std::string(name) + ": expected an array" + (std::is_const_v<T> ? "" : " that may be written") +
                          ", got " + nb::cast<std::string>(nb::str(object.type().attr("__name__"))))
                             .c_str());
  std::vector<int64_t> shape(array.ndim());
  for (size_t i = 0; i < shape.size(); ++i) shape[i] = static_cast<int64_t>(array.shape(i));
  bool fits = shape.size() == wanted.size();
  for (size_t i = 0; fits && i < shape.size(); ++i) {
    const int64_t length = wanted.begin()[i];
    fits = length == kAny || length == shape[i];
  }
  const auto type = array.dtype();
  if (array.device_type() != nb::device::cpu::value)
    throw std::invalid_argument(std::string(name) + ": expected an array on the CPU");
  if (type != dtype_of<Element>() || !fits)
    throw std::invalid_argument(std::string(name) + ": expected " + name_of(dtype_of<Element>()) + " " +
                                shape_text(wanted) + ", got " + name_of(type) + " " + shape_text(shape));
  int64_t stride = 1, elements = 1;
  for (int64_t length : shape) elements *= length;
  for (size_t i = shape.size(); i-- > 0; stride *= shape[i])
    if (elements > 0 && shape[i] > 1 && array.stride(i) != stride)
      throw std::invalid_argument(std::string(name) + ": expected rows one after the other in memory (call contiguous())");
  return {static_cast<T*>(const_cast<void*>(array.data())), std::move(shape), nb::borrow(object)};
}

template <typename T>
Array<T> checked_or_none(nb::handle object, const char* name, std::initializer_list<int64_t> wanted) {
  return object.is_none() ? Array<T>{} : checked<T>(object, name, wanted);
}

// An integer from ``least`` to ``most``.
inline int64_t whole_number(nb::handle object, const char* name, int64_t least, int64_t most) {
  int64_t number = 0;
  if (!nb::try_cast<int64_t>(object, number) || number < least || number > most)
    throw std::invalid_argument(std::string(name) + ": expected a whole number from " + std::to_string(least) + " to " +
                                std::to_string(most) + ", got " + nb::cast<std::string>(nb::repr(object)));
  return number;
}

inline void require(bool holds, const std::string& message) {
  if (!holds) throw std::invalid_argument(message);
}

}  // namespace shoal
