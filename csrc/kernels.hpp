// What the kernels work on.
#pragma once

#include <cstddef>
#include <cstdint>

namespace fcnkit {

constexpr int kVoid = 255;

// A palette as the kernels read it: by label, unused entries zero.
struct Colors {
    std::uint8_t rgbx[256][4];  // fourth byte: 1 for a label that has no color, else 0
    std::uint8_t channel[3][256];
    unsigned classes;  // labels below it have a color, and 255 has one
};

// (x / 255 - mean) / std, as one multiply-add and as a table of the exact values.
struct Normalize {
    float scale[3];
    float bias[3];
    float exact[3][256];
    std::uint16_t exact_half[3][256];
};

// Logits of the same pixels seen by one or more tiles: logit of class c, pixel x, tile t is
// tiles[t][c * class_stride + x], and what counts is the sum over t in that order.
template <class T>
struct Views {
    const T* const* tiles;
    std::size_t count;         // >= 1
    std::size_t classes;       // 1..256
    std::size_t class_stride;  // in elements
    // Elements from these pixels to the pixels of the next call, or 0: just behind these. Only a
    // hint for prefetching. What lies there need not exist.
    std::size_t pitch;
};

// Element types: float, and the bits of IEEE binary16 and of bfloat16.
struct Half {
    std::uint16_t bits;
};
struct Brain {
    std::uint16_t bits;
};

}  // namespace fcnkit
