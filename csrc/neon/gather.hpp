// What gather needs of NEON.
#pragma once

namespace fcnkit::neon {
namespace {

// 16 pixels at a time. The load itself takes channels apart.
class GatherVectors {
   public:
    static constexpr std::size_t kPixels = 16, kReads = 48;
    using Pixels = uint8x16x3_t;

    explicit GatherVectors(const Normalize& normalize) : normalize_(normalize) {}

    static Pixels load(const std::uint8_t* rgb) { return vld3q_u8(rgb); }

    template <class T>
    void store(T* to, const Pixels& pixels, int channel) const {
        const float scale = normalize_.scale[channel];
        const float32x4_t bias = vdupq_n_f32(normalize_.bias[channel]);
        const uint8x16_t bytes = pixels.val[channel];
        const uint16x8_t halves[2] = {vmovl_u8(vget_low_u8(bytes)), vmovl_u8(vget_high_u8(bytes))};
        FCNKIT_UNROLL
        for (int k = 0; k < 2; ++k) {
            const float32x4_t low = vcvtq_f32_u32(vmovl_u16(vget_low_u16(halves[k])));
            const float32x4_t high = vcvtq_f32_u32(vmovl_u16(vget_high_u16(halves[k])));
            put(to + 8 * k, vfmaq_n_f32(bias, low, scale));
            put(to + 8 * k + 4, vfmaq_n_f32(bias, high, scale));
        }
    }

   private:
    static void put(float* to, float32x4_t values) { vst1q_f32(to, values); }

    static void put(std::uint16_t* to, float32x4_t values) {
        vst1_u16(to, vreinterpret_u16_f16(vcvt_f16_f32(values)));
    }

    const Normalize& normalize_;
};

}  // namespace
}  // namespace fcnkit::neon
