// What the kernels work on.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>

namespace fcnkit {

constexpr int kVoid = 255;
constexpr float kLowest = -std::numeric_limits<float>::infinity();

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

// Where labels go, and how sure they are. Both are 255 times a probability of the softmax over the
// mean of the logits, rounded: that of the label, and how much larger it is than the next one. They
// are 0 where the largest mean is not finite.
struct Results {
    std::uint8_t* labels;
    std::uint8_t* confidence;  // null: only labels; then margin is null too
    std::uint8_t* margin;

    Results operator+(std::size_t pixels) const {
        if (confidence == nullptr) {
            return {labels + pixels, nullptr, nullptr};
        }
        return {labels + pixels, confidence + pixels, margin + pixels};
    }
};

// Element types: float, and the bits of IEEE binary16 and of bfloat16.
struct Half {
    std::uint16_t bits;
};
struct Brain {
    std::uint16_t bits;
};

// For upsample_argmax: blocks of pixels are labeled many at a time, a bit of a word for each, and
// each in parts of at most kLeaf x kLeaf pixels.
constexpr std::size_t kBatch = 64;
constexpr std::size_t kLeaf = 8;

// Weights of the last layer at the first pixel of a leaf, in the cell of one tile. They lie in
// strips of kLeaf columns. Columns from `columns` on are read from the strip behind.
struct Spot {
    const float* weights;
    std::size_t columns;  // 1..kLeaf
};

// A leaf of each block of a batch: the same pixels of blocks that see equal weights. The logit of a
// class is the sum over the tiles, in order, of
//     bias + feature of tap 0 * weight of tap 0 + feature of tap 1 * weight of tap 1 + ...
struct Leaf {
    const Spot* spots;      // one for each tile that sees the blocks
    std::size_t tiles;      // >= 1
    const float* features;  // (tiles, features of a tile, kBatch)
    std::size_t tile_features;
    const float* bias;
    const std::uint8_t* classes;  // those that can win, ascending
    std::size_t count;            // of them
    std::size_t taps;             // products per class and tile
    std::size_t first_tap;        // first feature of class c: c * first_tap
    std::size_t class_stride;     // in weights, from a class to the next
    std::size_t strip_stride;     // from a strip to the next
    std::size_t tap_stride;       // from a tap to the next
    std::size_t rows;             // 1..kLeaf
    float* best;                  // scratch of LabelLeaf: (kBatch, 2, kLeaf * kLeaf)
};

// A part of each block of a batch, whose labels may be known from the logits of its corners alone.
// bounds of a tile: (classes, taps, 5): the weights at the four corner pixels, and how far a weight
// of the part lies from what the corners interpolate at most, rounding included.
struct PartBound {
    const float* const* bounds;  // of each tile
    std::size_t tiles;
    const float* features;  // (tiles, features of a tile, kBatch)
    std::size_t tile_features;
    const float* bias;   // of one tile
    const float* slack;  // (classes): rounding of the bias, and of numbers too small for floats
    const std::uint8_t* classes;  // those that can win, ascending
    std::size_t count;            // of them
    std::size_t taps, first_tap;  // as in Leaf
    std::size_t blocks;           // 1..kBatch
    float* scratch;               // (classes, 5, 2 * lanes of the set), at most 32 lanes
};

// Margins are taken by that much larger, for their own rounding.
constexpr float kMarginFactor = 1.001F;

// The answer, a bit for each block: contenders by class as in PartBound; those that are decided
// have one contender.
struct PartAnswer {
    std::uint64_t decided;
    std::uint64_t contenders[256];
};

}  // namespace fcnkit
