// The AVX2 kernels, with FMA and F16C: 32 bytes per register, tables of 16 entries per lookup.
#include "target.hpp"

#if FCNKIT_X86
#include <immintrin.h>

#include <cstring>
#include <limits>

#include "dispatch.hpp"
#include "prefetch.hpp"

FCNKIT_TARGET_BEGIN(FCNKIT_AVX2)
#include "generic/loops.hpp"
#include "avx2/vectors.hpp"
#include "avx2/encode.hpp"
FCNKIT_TARGET_END

namespace fcnkit {

constexpr Table avx2_table("avx2", avx2::Set());

}  // namespace fcnkit
#endif
