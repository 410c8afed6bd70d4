// NEON decode and overlay for palettes of up to 64 colours, 16 pixels at a time.
#include "target.hpp"

#if FCNKIT_NEON
#include <arm_neon.h>

#include "neon/neon.hpp"
#include "scalar/scalar.hpp"

namespace fcnkit::neon {
namespace {

constexpr unsigned kMost = 64;  // colours

uint8x16_t is_void(uint8x16_t labels) { return vceqq_u8(labels, vdupq_n_u8(kVoid)); }

uint8x16_t colorless(uint8x16_t labels, const Colors& colors) {
    const auto classes = static_cast<std::uint8_t>(colors.classes);
    return vbicq_u8(vcgeq_u8(labels, vdupq_n_u8(classes)), is_void(labels));
}

// One channel of up to 64 colours and void.
class Table {
   public:
    explicit Table(const std::uint8_t (&channel)[256])
        : entries_(vld1q_u8_x4(channel)), void_(vdupq_n_u8(channel[kVoid])) {}
    uint8x16_t operator()(uint8x16_t labels) const {
        return vbslq_u8(is_void(labels), void_, vqtbl4q_u8(entries_, labels));
    }

   private:
    uint8x16x4_t entries_;
    uint8x16_t void_;
};

// (image * keep + color * weight + 128) >> 8; every sum fits 16 bits.
uint8x16_t blend(uint8x16_t image, uint8x16_t color, std::uint16_t keep, std::uint16_t weight) {
    const auto mix = [&](uint8x8_t a, uint8x8_t b) {
        const uint16x8_t sum = vmulq_n_u16(vmovl_u8(a), keep);
        return vrshrn_n_u16(vmlaq_n_u16(sum, vmovl_u8(b), weight), 8);
    };
    return vcombine_u8(mix(vget_low_u8(image), vget_low_u8(color)),
                       mix(vget_high_u8(image), vget_high_u8(color)));
}

}  // namespace

bool decode(const std::uint8_t* labels, std::size_t n, const Colors& colors, std::uint8_t* rgb) {
    if (colors.classes > kMost) {
        return scalar::decode(labels, n, colors, rgb);
    }
    const Table red(colors.channel[0]), green(colors.channel[1]), blue(colors.channel[2]);
    uint8x16_t illegal = vdupq_n_u8(0);
    std::size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        const uint8x16_t at = vld1q_u8(labels + i);
        illegal = vorrq_u8(illegal, colorless(at, colors));
        vst3q_u8(rgb + 3 * i, uint8x16x3_t{{red(at), green(at), blue(at)}});
    }
    return scalar::decode(labels + i, n - i, colors, rgb + 3 * i) && vmaxvq_u8(illegal) == 0;
}

bool overlay(const std::uint8_t* image, const std::uint8_t* labels, std::size_t n,
             const Colors& colors, unsigned weight, std::uint8_t* out) {
    if (colors.classes > kMost) {
        return scalar::overlay(image, labels, n, colors, weight, out);
    }
    const Table channels[3] = {Table(colors.channel[0]), Table(colors.channel[1]),
                               Table(colors.channel[2])};
    const auto keep = static_cast<std::uint16_t>(256 - weight);
    uint8x16_t illegal = vdupq_n_u8(0);
    std::size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        const uint8x16_t at = vld1q_u8(labels + i);
        illegal = vorrq_u8(illegal, colorless(at, colors));
        uint8x16x3_t pixels = vld3q_u8(image + 3 * i);
        for (int c = 0; c < 3; ++c) {
            const uint8x16_t mixed = blend(pixels.val[c], channels[c](at), keep,
                                           static_cast<std::uint16_t>(weight));
            pixels.val[c] = vbslq_u8(is_void(at), pixels.val[c], mixed);
        }
        vst3q_u8(out + 3 * i, pixels);
    }
    return scalar::overlay(image + 3 * i, labels + i, n - i, colors, weight, out + 3 * i) &&
           vmaxvq_u8(illegal) == 0;
}

}  // namespace fcnkit::neon
#endif
