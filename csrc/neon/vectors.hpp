// The registers of NEON, for the loops of generic/.
#pragma once

namespace fcnkit::neon {
namespace {

// For decode and overlay: 16 pixels at a time, palettes of up to 64 colors. Loads and stores
// interleave by themselves, so pixels are three registers of one channel each.
struct ColorVectors {
    static constexpr std::size_t kPixels = 16;
    using Bytes = uint8x16_t;
    using Flags = uint8x16_t;  // bytes of ones
    struct Pixels {
        Bytes part[3];
    };

    static Bytes load(const std::uint8_t* from) { return vld1q_u8(from); }

    static Pixels load_pixels(const std::uint8_t* from) {
        const uint8x16x3_t pixels = vld3q_u8(from);
        return {{pixels.val[0], pixels.val[1], pixels.val[2]}};
    }

    static void store(std::uint8_t* to, const Pixels& pixels) {
        vst3q_u8(to, uint8x16x3_t{{pixels.part[0], pixels.part[1], pixels.part[2]}});
    }

    static Flags no_flags() { return vdupq_n_u8(0); }
    static Flags either(Flags a, Flags b) { return vorrq_u8(a, b); }
    static bool none(Flags flags) { return vmaxvq_u8(flags) == 0; }
    static Flags is_void(Bytes labels) { return vceqq_u8(labels, vdupq_n_u8(kVoid)); }
    static Bytes select(Flags flags, Bytes yes, Bytes no) { return vbslq_u8(flags, yes, no); }

    // Which labels have no color.
    static Flags colorless(Bytes labels, const Colors& colors) {
        const auto classes = static_cast<std::uint8_t>(colors.classes);
        return vbicq_u8(vcgeq_u8(labels, vdupq_n_u8(classes)), is_void(labels));
    }

    // One channel of up to 64 colors and void.
    static constexpr unsigned kSmall = 64;
    class Small {
       public:
        explicit Small(const std::uint8_t (&channel)[256])
            : entries_(vld1q_u8_x4(channel)), void_(vdupq_n_u8(channel[kVoid])) {}
        Bytes operator()(Bytes labels) const {
            return select(is_void(labels), void_, vqtbl4q_u8(entries_, labels));
        }

       private:
        uint8x16x4_t entries_;
        uint8x16_t void_;
    };
    using Large = void;

    struct Weave {
        Pixels operator()(const Pixels& channels) const { return channels; }

        // Which bytes of the pixels belong to void. A palette this small always has it.
        Pixels void_bytes(Bytes labels, bool) const {
            const Flags nothing = is_void(labels);
            return {{nothing, nothing, nothing}};
        }
    };

    // (image * keep + color * weight + 128) >> 8; every sum fits 16 bits.
    class Blend {
       public:
        explicit Blend(unsigned weight)
            : keep_(static_cast<std::uint16_t>(256 - weight)),
              weight_(static_cast<std::uint16_t>(weight)) {}

        Bytes operator()(Bytes image, Bytes color) const {
            return vcombine_u8(mix(vget_low_u8(image), vget_low_u8(color)),
                               mix(vget_high_u8(image), vget_high_u8(color)));
        }

       private:
        uint8x8_t mix(uint8x8_t image, uint8x8_t color) const {
            const uint16x8_t sum = vmulq_n_u16(vmovl_u8(image), keep_);
            return vrshrn_n_u16(vmlaq_n_u16(sum, vmovl_u8(color), weight_), 8);
        }

        std::uint16_t keep_, weight_;
    };
};

// For gather: 16 pixels at a time. The load itself takes channels apart.
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

// For argmax and the sums of logits.
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
        const Flags low =
            vandq_u32(vceqq_f32(values[0], values[0]), vceqq_f32(values[1], values[1]));
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

// For upsample_argmax: a row of a leaf in two registers.
struct UpsampleVectors {
    static constexpr std::size_t kLanes = 8;
    static constexpr std::size_t kBlocks = 2;
    struct Floats {
        float32x4_t low, high;
    };
    struct Mask {
        uint32x4_t low, high;
    };

    static Floats load(const float* from) { return {vld1q_f32(from), vld1q_f32(from + 4)}; }

    static void store(float* to, Floats values) {
        vst1q_f32(to, values.low);
        vst1q_f32(to + 4, values.high);
    }

    static Floats broadcast(float value) { return {vdupq_n_f32(value), vdupq_n_f32(value)}; }

    static Floats add(Floats a, Floats b) {
        return {vaddq_f32(a.low, b.low), vaddq_f32(a.high, b.high)};
    }

    static Floats subtract(Floats a, Floats b) {
        return {vsubq_f32(a.low, b.low), vsubq_f32(a.high, b.high)};
    }

    static Floats multiply(Floats a, Floats b) {
        return {vmulq_f32(a.low, b.low), vmulq_f32(a.high, b.high)};
    }

    static Floats smaller(Floats a, Floats b) {
        return {vminq_f32(a.low, b.low), vminq_f32(a.high, b.high)};
    }

    static Floats magnitude(Floats a) { return {vabsq_f32(a.low), vabsq_f32(a.high)}; }

    static Floats multiply_add(Floats a, Floats b, Floats c) {
        return {vfmaq_f32(c.low, a.low, b.low), vfmaq_f32(c.high, a.high, b.high)};
    }

    static Mask greater(Floats a, Floats b) {
        return {vcgtq_f32(a.low, b.low), vcgtq_f32(a.high, b.high)};
    }

    static std::uint64_t bits(Mask mask) {
        const uint32x4_t place{1, 2, 4, 8};
        return vaddvq_u32(vandq_u32(mask.low, place)) |
               vaddvq_u32(vandq_u32(mask.high, place)) << 4;
    }

    static Floats select(Mask mask, Floats yes, Floats no) {
        return {vbslq_f32(mask.low, yes.low, no.low), vbslq_f32(mask.high, yes.high, no.high)};
    }

    // The first columns of each row of a leaf come from one strip of weights, the others from the
    // one behind.
    static Mask behind(std::size_t own) {
        const uint32x4_t count = vdupq_n_u32(static_cast<std::uint32_t>(own));
        const uint32x4_t low{0, 1, 2, 3}, high{4, 5, 6, 7};
        return {vcgeq_u32(low, count), vcgeq_u32(high, count)};
    }

    static Floats join(Floats own, const float* other, Mask behind) {
        return select(behind, load(other), own);
    }
};

}  // namespace
}  // namespace fcnkit::neon
