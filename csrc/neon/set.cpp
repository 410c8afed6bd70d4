// The NEON kernels of 64-bit Arm: 16 bytes per register, tables of 64 entries per lookup.
#include "target.hpp"

#if FCNKIT_NEON
#include <arm_neon.h>

#include "dispatch.hpp"
#include "prefetch.hpp"

#include "generic/color.hpp"
#include "generic/gather.hpp"
#include "generic/logits.hpp"

#include "neon/color.hpp"
#include "neon/gather.hpp"
#include "neon/logits.hpp"

namespace fcnkit {
namespace {

struct Neon : ColorLoops<neon::ColorVectors,
                         GatherLoop<neon::GatherVectors, LogitLoops<neon::LogitVectors, Scalar>>> {
    static constexpr const char* kName = "neon";
};

}  // namespace

const Table& neon_table() {
    static const Table table{Neon{}};
    return table;
}

}  // namespace fcnkit
#endif
