// Portable decode, encode and overlay.
#include <cstring>

#include "kernel_set.hpp"

namespace fcnkit {
namespace {

std::uint32_t load_key(const std::uint8_t* rgb) {
    return rgb[0] | static_cast<std::uint32_t>(rgb[1]) << 8 |
           static_cast<std::uint32_t>(rgb[2]) << 16;
}

// Same, for any pixel but the last: one load of four bytes where the byte order allows it.
std::uint32_t load_key_of_four(const std::uint8_t* rgb) {
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    std::uint32_t key;
    std::memcpy(&key, rgb, 4);
    return key & 0xFFFFFFU;
#else
    return load_key(rgb);
#endif
}

// The label of a key, and 1 for a key that is nobody's color.
struct Found {
    std::uint8_t label;
    std::size_t unknown;
};

Found find(const Encoder& encoder, const std::uint32_t* slots, std::uint32_t key,
           std::uint8_t unknown) {
    const std::uint32_t slot = slots[encoder.slot(key)];
    const bool known = slot >> 8 == key;
    return {known ? static_cast<std::uint8_t>(slot) : unknown, known ? 0U : 1U};
}

std::uint8_t blend(unsigned image, unsigned color, unsigned weight) {
    return static_cast<std::uint8_t>((image * (256 - weight) + color * weight + 128) >> 8);
}

}  // namespace

bool Scalar::decode(const std::uint8_t* labels, std::size_t n, const Colors& colors,
                    std::uint8_t* rgb) {
    if (n == 0) {
        return true;
    }
    std::uint8_t illegal = 0;
    for (std::size_t i = 0; i + 1 < n; ++i) {  // four bytes each: the next pixel mends the fourth
        const std::uint8_t* color = colors.rgbx[labels[i]];
        illegal = static_cast<std::uint8_t>(illegal | color[3]);
        std::memcpy(rgb + 3 * i, color, 4);
    }
    const std::uint8_t* color = colors.rgbx[labels[n - 1]];
    std::memcpy(rgb + 3 * (n - 1), color, 3);
    return (illegal | color[3]) == 0;
}

std::size_t Scalar::encode(const std::uint8_t* rgb, std::size_t n, const Encoder& encoder,
                           std::uint8_t unknown, std::uint8_t* labels) {
    if (n == 0) {
        return 0;
    }
    const std::uint32_t* slots = encoder.slots.data();
    std::size_t missed = 0;
    for (std::size_t i = 0; i + 1 < n; ++i) {
        const Found found = find(encoder, slots, load_key_of_four(rgb + 3 * i), unknown);
        labels[i] = found.label;
        missed += found.unknown;
    }
    const Found found = find(encoder, slots, load_key(rgb + 3 * (n - 1)), unknown);
    labels[n - 1] = found.label;
    return missed + found.unknown;
}

bool Scalar::overlay(const std::uint8_t* image, const std::uint8_t* labels, std::size_t n,
                     const Colors& colors, unsigned weight, std::uint8_t* out) {
    std::uint8_t illegal = 0;
    for (std::size_t i = 0; i < n; ++i) {
        const std::uint8_t* color = colors.rgbx[labels[i]];
        illegal = static_cast<std::uint8_t>(illegal | color[3]);
        const unsigned w = labels[i] == kVoid && colors.classes <= kVoid ? 0 : weight;
        for (std::size_t c = 0; c < 3; ++c) {
            out[3 * i + c] = blend(image[3 * i + c], color[c], w);
        }
    }
    return illegal == 0;
}

}  // namespace fcnkit
