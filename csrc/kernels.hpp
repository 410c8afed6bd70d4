// What a kernel is: one function per idea over plain pointers, in one table per instruction set.
//
// Conventions, true for every entry unless it says otherwise:
// - lengths count pixels, never bytes; a length of 0 does nothing;
// - inputs may overlap each other, an output overlaps nothing else the call sees;
// - nothing outside [pointer, pointer + length) is read or written, and no alignment is needed;
// - integer results are the same, bit for bit, in every table.
#pragma once

#include <cstddef>
#include <cstdint>

#include "encoder.hpp"

namespace fcnkit {

constexpr int kVoid = 255;

// A palette as the kernels read it: by label, unused entries zero.
struct Colors {
    std::uint8_t rgbx[256][4];  // fourth byte: 1 for a label that has no colour, else 0
    std::uint8_t channel[3][256];
    unsigned classes;  // labels below it have a colour, and 255 has one
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
    // Elements from these pixels to those that are asked for next, or 0: just behind these. Only
    // a hint for fetching ahead; what lies there need not exist.
    std::size_t pitch;
};

// Element types: float, and the bits of IEEE binary16 and of bfloat16.
struct Half {
    std::uint16_t bits;
};
struct Brain {
    std::uint16_t bits;
};

// Index of the largest logit: the first of equals, and the first NaN where there is one.
template <class T>
using Argmax = void (*)(const Views<T>& views, std::size_t n, std::uint8_t* labels);

// sums[x] = row[x], or += where not first.
template <class T>
using Accumulate = void (*)(const T* row, std::size_t n, bool first, float* sums);

struct Table {
    const char* name;
    // Label -> RGB. False if a label has no colour; then the output is unspecified.
    bool (*decode)(const std::uint8_t* labels, std::size_t n, const Colors& colors,
                   std::uint8_t* rgb);
    // RGB -> label. Returns how many pixels have no known colour.
    std::size_t (*encode)(const std::uint8_t* rgb, std::size_t n, const Encoder& encoder,
                          std::uint8_t unknown, std::uint8_t* labels);
    // (image * (256 - weight) + colour * weight + 128) >> 8, the image itself where void.
    // weight is 0..256. out may be the image. False as for decode.
    bool (*overlay)(const std::uint8_t* image, const std::uint8_t* labels, std::size_t n,
                    const Colors& colors, unsigned weight, std::uint8_t* out);
    // Interleaved bytes -> three planes. Within 2 units in the last place of the exact value
    // plus 2^-22 times |bias|; the scalar table is exact.
    void (*gather_float)(const std::uint8_t* rgb, std::size_t n, const Normalize& normalize,
                         float* const planes[3]);
    void (*gather_half)(const std::uint8_t* rgb, std::size_t n, const Normalize& normalize,
                        std::uint16_t* const planes[3]);
    Argmax<float> argmax_float;
    Argmax<Half> argmax_half;
    Argmax<Brain> argmax_brain;
    Accumulate<float> accumulate_float;
    Accumulate<Half> accumulate_half;
    Accumulate<Brain> accumulate_brain;
    // counts[t * classes + p] += pixels of target t and prediction p. False if a target that is
    // not ignore is >= classes, or its prediction is; then the counts are unspecified.
    // scratch: confusion_scratch(classes) elements; their contents do not matter.
    bool (*confusion)(const std::uint8_t* target, const std::uint8_t* predicted, std::size_t n,
                      unsigned classes, unsigned ignore, std::uint32_t* scratch,
                      std::int64_t* counts);
};

// Elements that the confusion kernel works in.
std::size_t confusion_scratch(unsigned classes);

template <class T>
Argmax<T> argmax_of(const Table& table);
template <>
inline Argmax<float> argmax_of(const Table& table) { return table.argmax_float; }
template <>
inline Argmax<Half> argmax_of(const Table& table) { return table.argmax_half; }
template <>
inline Argmax<Brain> argmax_of(const Table& table) { return table.argmax_brain; }

template <class T>
Accumulate<T> accumulate_of(const Table& table);
template <>
inline Accumulate<float> accumulate_of(const Table& table) { return table.accumulate_float; }
template <>
inline Accumulate<Half> accumulate_of(const Table& table) { return table.accumulate_half; }
template <>
inline Accumulate<Brain> accumulate_of(const Table& table) { return table.accumulate_brain; }

}  // namespace fcnkit
