// What decode and overlay need of NEON: 16 pixels at a time, palettes of up to 64 colors. Loads and
// stores interleave by themselves, so pixels are three registers of one channel each.
#pragma once

namespace fcnkit::neon {
namespace {

struct ColorVectors {
    static constexpr std::size_t kPixels = 16;
    using Bytes = uint8x16_t;
    using Flags = uint8x16_t;  // bytes of ones
    struct Pixels {
        Bytes part[3];
    };
    using PixelFlags = Pixels;

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
        PixelFlags void_bytes(Bytes labels, bool) const {
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

}  // namespace
}  // namespace fcnkit::neon
