// The AVX-512 kernels, with VBMI and GFNI: 64 bytes per register, and any byte to any place.
#include "target.hpp"

#if FCNKIT_X86
#include <immintrin.h>

#include <cstring>
#include <limits>

#include "dispatch.hpp"
#include "prefetch.hpp"

FCNKIT_TARGET_BEGIN(FCNKIT_AVX512)
#include "generic/loops.hpp"
#include "avx512/vectors.hpp"
#include "avx512/encode.hpp"
FCNKIT_TARGET_END

namespace fcnkit {

constexpr Table avx512_table("avx512", avx512::Set());

}  // namespace fcnkit
#endif
