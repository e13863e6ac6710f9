// The arithmetic for one instruction set, SHOAL_VARIANT: compiled once for each, with the flags that it names.
#include "block.hpp"

#define SHOAL_JOIN_(a, b) a##b
#define SHOAL_JOIN(a, b) SHOAL_JOIN_(a, b)
#define SHOAL_STRING_(a) #a
#define SHOAL_STRING(a) SHOAL_STRING_(a)

namespace shoal {

namespace v = SHOAL_VARIANT;

extern const Kernels SHOAL_JOIN(kernels_, SHOAL_VARIANT) = {
    SHOAL_STRING(SHOAL_VARIANT),
    v::quantize,
    v::norm,
    v::norm_quantize,
    v::gated_quantize,
    v::starts,
    v::linear,
    v::rope,
    v::write_kv,
    v::attention,
    v::embedding_rows,
    v::block_scratch,
    v::block,
};

}  // namespace shoal
