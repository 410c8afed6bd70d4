// The AVX-512 kernels, with VBMI and GFNI: 64 bytes per register, and any byte to any place.
#include "target.hpp"

#if FCNKIT_X86
#include <immintrin.h>

#include "dispatch.hpp"
#include "prefetch.hpp"

FCNKIT_TARGET_BEGIN(FCNKIT_AVX512)
#include "generic/color.hpp"
#include "generic/gather.hpp"
#include "generic/logits.hpp"

#include "avx512/color.hpp"
#include "avx512/encode.hpp"
#include "avx512/gather.hpp"
#include "avx512/logits.hpp"
FCNKIT_TARGET_END

namespace fcnkit {
namespace {

struct Avx512 : ColorLoops<avx512::ColorVectors,
                           GatherLoop<avx512::GatherVectors, LogitLoops<avx512::LogitVectors, Scalar>>> {
    static constexpr const char* kName = "avx512";
    static constexpr Encode* encode = avx512::encode;
};

}  // namespace

const Table& avx512_table() {
    static const Table table{Avx512{}};
    return table;
}

}  // namespace fcnkit
#endif
