// What argmax and the sums of logits need of NEON.
#pragma once

namespace fcnkit::neon {
namespace {

struct LogitVectors {
    static constexpr std::size_t kLanes = 4;
    static constexpr std::size_t kVectors = 4;
    using Partial = void;
    using Floats = float32x4_t;
    using Index = uint32x4_t;
    using Flags = uint32x4_t;  // zero where there is a NaN

    static Floats load(const float* from) { return vld1q_f32(from); }

    static Floats load(const Half* from) {
        const uint16x4_t bits = vld1_u16(reinterpret_cast<const std::uint16_t*>(from));
        return vcvt_f32_f16(vreinterpret_f16_u16(bits));
    }

    static Floats load(const Brain* from) {
        const uint16x4_t bits = vld1_u16(reinterpret_cast<const std::uint16_t*>(from));
        return vreinterpretq_f32_u32(vshll_n_u16(bits, 16));
    }

    static void store(float* to, Floats values) { vst1q_f32(to, values); }
    static Floats add(Floats a, Floats b) { return vaddq_f32(a, b); }
    static Index zero() { return vdupq_n_u32(0); }

    static Flags any_nan(const Floats (&values)[kVectors]) {  // NaN is not equal to itself
        const Flags low = vandq_u32(vceqq_f32(values[0], values[0]), vceqq_f32(values[1], values[1]));
        const Flags high =
            vandq_u32(vceqq_f32(values[2], values[2]), vceqq_f32(values[3], values[3]));
        return vandq_u32(low, high);
    }

    static Flags either(Flags a, Flags b) { return vandq_u32(a, b); }
    static bool none(Flags flags) { return vminvq_u32(flags) != 0; }

    // The logits of class c join the best so far.
    static void keep_larger(Floats values, std::size_t c, Floats& best, Index& index) {
        const uint32x4_t larger = vcgtq_f32(values, best);
        best = vbslq_f32(larger, values, best);
        index = vbslq_u32(larger, vdupq_n_u32(static_cast<std::uint32_t>(c)), index);
    }

    static void store_labels(const Index (&index)[kVectors], std::uint8_t* labels) {
        const uint16x8_t low = vcombine_u16(vmovn_u32(index[0]), vmovn_u32(index[1]));
        const uint16x8_t high = vcombine_u16(vmovn_u32(index[2]), vmovn_u32(index[3]));
        vst1q_u8(labels, vcombine_u8(vmovn_u16(low), vmovn_u16(high)));
    }
};

}  // namespace
}  // namespace fcnkit::neon
