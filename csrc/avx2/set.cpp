// The AVX2 kernels, with FMA and F16C: 32 bytes per register, tables of 16 entries per lookup.
#include "target.hpp"

#if FCNKIT_X86
#include <immintrin.h>

#include "dispatch.hpp"
#include "prefetch.hpp"

FCNKIT_TARGET_BEGIN(FCNKIT_AVX2)
#include "generic/color.hpp"
#include "generic/gather.hpp"
#include "generic/logits.hpp"

namespace fcnkit::avx2 {
namespace {

__m256i twice(const std::uint8_t* sixteen) {
    return _mm256_broadcastsi128_si256(
        _mm_loadu_si128(reinterpret_cast<const __m128i*>(sixteen)));
}

}  // namespace
}  // namespace fcnkit::avx2

#include "avx2/color.hpp"
#include "avx2/encode.hpp"
#include "avx2/gather.hpp"
#include "avx2/logits.hpp"
FCNKIT_TARGET_END

namespace fcnkit {
namespace {

struct Avx2 : ColorLoops<avx2::ColorVectors,
                         GatherLoop<avx2::GatherVectors, LogitLoops<avx2::LogitVectors, Scalar>>> {
    static constexpr const char* kName = "avx2";
    static constexpr Encode* encode = avx2::encode;
};

}  // namespace

const Table& avx2_table() {
    static const Table table{Avx2{}};
    return table;
}

}  // namespace fcnkit
#endif
