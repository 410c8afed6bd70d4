// The NEON kernels of 64-bit Arm: 16 bytes per register, tables of 64 entries per lookup.
#include "target.hpp"

#if FCNKIT_NEON
#include <arm_neon.h>

#include <cstring>
#include <limits>

#include "dispatch.hpp"
#include "prefetch.hpp"

#include "generic/loops.hpp"
#include "neon/vectors.hpp"

namespace fcnkit {

constexpr Table neon_table("neon", Loops<neon::ColorVectors, neon::GatherVectors,
                                         neon::LogitVectors, neon::UpsampleVectors>());

}  // namespace fcnkit
#endif
