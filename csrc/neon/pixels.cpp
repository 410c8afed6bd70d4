// NEON gather, and the table of this set's kernels.
#include "target.hpp"

#if FCNKIT_NEON
#include <arm_neon.h>

#include "dispatch.hpp"
#include "neon/neon.hpp"
#include "scalar/scalar.hpp"

namespace fcnkit {
namespace neon {
namespace {

void store(float* to, float32x4_t values) { vst1q_f32(to, values); }

void store(std::uint16_t* to, float32x4_t values) {
    vst1_u16(to, vreinterpret_u16_f16(vcvt_f16_f32(values)));
}

// One channel of 16 pixels.
template <class T>
void normalize_plane(uint8x16_t bytes, float scale, float bias, T* to) {
    const uint16x8_t halves[2] = {vmovl_u8(vget_low_u8(bytes)), vmovl_u8(vget_high_u8(bytes))};
    for (int k = 0; k < 2; ++k) {
        const float32x4_t low = vcvtq_f32_u32(vmovl_u16(vget_low_u16(halves[k])));
        const float32x4_t high = vcvtq_f32_u32(vmovl_u16(vget_high_u16(halves[k])));
        store(to + 8 * k, vfmaq_n_f32(vdupq_n_f32(bias), low, scale));
        store(to + 8 * k + 4, vfmaq_n_f32(vdupq_n_f32(bias), high, scale));
    }
}

template <class T>
std::size_t normalize_planes(const std::uint8_t* rgb, std::size_t n, const Normalize& normalize,
                             T* const planes[3]) {
    std::size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        const uint8x16x3_t pixels = vld3q_u8(rgb + 3 * i);
        for (int c = 0; c < 3; ++c) {
            normalize_plane(pixels.val[c], normalize.scale[c], normalize.bias[c], planes[c] + i);
        }
    }
    return i;
}

}  // namespace

void gather_float(const std::uint8_t* rgb, std::size_t n, const Normalize& normalize,
                  float* const planes[3]) {
    const std::size_t i = normalize_planes(rgb, n, normalize, planes);
    float* const rest[3] = {planes[0] + i, planes[1] + i, planes[2] + i};
    scalar::gather_float(rgb + 3 * i, n - i, normalize, rest);
}

void gather_half(const std::uint8_t* rgb, std::size_t n, const Normalize& normalize,
                 std::uint16_t* const planes[3]) {
    const std::size_t i = normalize_planes(rgb, n, normalize, planes);
    std::uint16_t* const rest[3] = {planes[0] + i, planes[1] + i, planes[2] + i};
    scalar::gather_half(rgb + 3 * i, n - i, normalize, rest);
}

}  // namespace neon

const Table& neon_table() {
    static const Table table = {
        "neon",
        neon::decode,
        scalar::encode,
        neon::overlay,
        neon::gather_float,
        neon::gather_half,
        neon::argmax<float>,
        neon::argmax<Half>,
        neon::argmax<Brain>,
        neon::accumulate<float>,
        neon::accumulate<Half>,
        neon::accumulate<Brain>,
        scalar::confusion,
    };
    return table;
}

}  // namespace fcnkit
#endif
