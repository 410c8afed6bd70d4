// Softmax of the label and its lead, over mean logits: plain loops, which the compiler turns into
// vectors for every set.
#pragma once

namespace fcnkit {
namespace {  // every set compiles its own

// Conditions on floats are conditions on their bits where that spares the compiler a branch: it
// must not compute what the source would not, because that might raise a floating-point exception.
inline std::int32_t bits_of(float value) {
    std::int32_t bits;
    std::memcpy(&bits, &value, 4);
    return bits;
}

inline float float_of(std::int32_t bits) {
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
}

// e^x for x <= 0, within 3e-6 of it times itself; next to nothing below -87, and for NaN.
// 2^whole goes into the exponent of a polynomial in the rest, which is at most half.
inline float exp_of_negative(float x) {
    constexpr float kRound = 12582912.0F;  // adding it leaves no bits for fractions
    constexpr std::int32_t kSign = -2147483647 - 1;
    constexpr std::int32_t kLeast = 0x42AE0000 | kSign;  // -87, whose bits are less than those of -88
    const std::int32_t bits = bits_of(x) | kSign;
    const float power = float_of(bits < kLeast ? bits : kLeast) * 1.44269504F;
    const float whole = (power + kRound) - kRound;
    const float rest = (power - whole) * 0.693147181F;
    const float tail = 0.5F + rest * (0.166666667F + rest * (0.0416666667F + rest * 0.00833333333F));
    const float value = 1.0F + rest * (1.0F + rest * tail);
    return float_of(bits_of(value) + static_cast<std::int32_t>(whole) * (1 << 23));
}

// What is kept of each pixel of a block while class after class joins.
struct Block {
    static constexpr std::size_t kPixels = 64;
    float sums[256][kPixels];
    float best[kPixels], second[kPixels];
    std::int32_t index[kPixels];
    float total[kPixels];
};

// As Argmax compares: larger, or the first NaN.
inline void rank_classes(Block& block, std::size_t classes, std::size_t n) {
    for (std::size_t x = 0; x < n; ++x) {
        block.best[x] = block.sums[0][x];
        block.second[x] = -std::numeric_limits<float>::infinity();
        block.index[x] = 0;
    }
    for (std::size_t c = 1; c < classes; ++c) {
        const float* values = block.sums[c];
        for (std::size_t x = 0; x < n; ++x) {
            const float best = block.best[x], second = block.second[x], value = values[x];
            const float loser = value < best ? value : best;
            const bool wins = value > best || (value != value && best == best);
            block.second[x] = loser > second ? loser : second;
            block.best[x] = wins ? value : best;
            block.index[x] = wins ? static_cast<std::int32_t>(c) : block.index[x];
        }
    }
}

inline void add_exponentials(Block& block, std::size_t classes, float share, std::size_t n) {
    for (std::size_t x = 0; x < n; ++x) {
        block.total[x] = 0.0F;
    }
    for (std::size_t c = 0; c < classes; ++c) {
        const float* values = block.sums[c];
        for (std::size_t x = 0; x < n; ++x) {
            block.total[x] += exp_of_negative((values[x] - block.best[x]) * share);
        }
    }
}

inline void write_results(const Block& block, std::size_t n, float share, const Results& out) {
    constexpr std::int32_t kExponent = 0x7F800000;
    for (std::size_t x = 0; x < n; ++x) {
        const float best = block.best[x], unit = 255.0F / block.total[x];
        const float lead = 1.0F - exp_of_negative((block.second[x] - best) * share);
        const bool finite = (bits_of(best) & kExponent) != kExponent;
        const auto confidence = static_cast<std::int32_t>(unit + 0.5F) * finite;
        const auto margin = static_cast<std::int32_t>(unit * lead + 0.5F) * finite;
        out.labels[x] = static_cast<std::uint8_t>(block.index[x]);
        out.confidence[x] = static_cast<std::uint8_t>(confidence);
        out.margin[x] = static_cast<std::uint8_t>(margin);
    }
}

}  // namespace

template <class Base>
struct ConfidenceLoop : Base {
    template <class T>
    static void confidence(const Views<T>& views, std::size_t n, float share, const Results& out) {
        Block block;
        for (std::size_t x = 0; x < n; x += Block::kPixels) {
            const std::size_t size = n - x < Block::kPixels ? n - x : Block::kPixels;
            for (std::size_t c = 0; c < views.classes; ++c) {
                const std::size_t offset = c * views.class_stride + x;
                for (std::size_t t = 0; t < views.count; ++t) {
                    Base::accumulate(views.tiles[t] + offset, size, t == 0, block.sums[c]);
                }
            }
            rank_classes(block, views.classes, size);
            add_exponentials(block, views.classes, share, size);
            write_results(block, size, share, out + x);
        }
    }
};

}  // namespace fcnkit
