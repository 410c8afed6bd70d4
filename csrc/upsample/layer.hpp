// The last layer of a network: a transposed convolution with kernel 2 * stride, stride and padding
// stride / 2, as upsample_argmax computes it.
#pragma once

#include <cstddef>
#include <vector>

#include "kernels.hpp"

namespace fcnkit {

// In cell (q, p) of a tile, the pixel (y, x) of stride x stride sees the scores (q - a, p - b) with
// a and b in {0, 1}, weighted with kernel element (y + stride * a, x + stride * b). This is tap
// 2 * a + b where a class sees its own scores alone. In a dense layer, where it sees those of every
// class, it is tap 4 * class + 2 * a + b.
class Layer {
   public:
    // weights: (classes, classes, 2 * stride, 2 * stride), from class to class, where dense, else
    // (classes, 2 * stride, 2 * stride). bias: (classes), or null.
    Layer(const float* weights, const float* bias, std::size_t classes, std::size_t stride,
          bool dense, bool edge);

    std::size_t classes() const { return classes_; }
    std::size_t stride() const { return stride_; }
    std::size_t features() const { return 4 * classes_; }  // of a tile and cell
    std::size_t taps() const { return taps_; }  // of a class
    float bias(std::size_t c) const { return bias_[c]; }
    float weight(std::size_t c, std::size_t tap, std::size_t y, std::size_t x) const {
        return weights_[place(c, tap, y, x)];
    }
    bool edge() const { return edge_; }  // scores repeat outside of a tile; else they are 0 there
    float gain() const { return gain_; }  // largest sum of a pixel's absolute weights

    // The weights at a pixel of a cell and the `columns` from it on.
    Spot spot(std::size_t y, std::size_t x, std::size_t columns) const;
    // A leaf without what depends on the batch.
    Leaf leaf() const;

   private:
    std::size_t place(std::size_t c, std::size_t tap, std::size_t y, std::size_t x) const {
        const std::size_t strip = c * strips_ + x / kLeaf;
        return ((strip * taps_ + tap) * rows_ + y) * kLeaf + x % kLeaf;
    }
    void find_gain();

    std::size_t classes_, stride_, taps_;
    bool dense_, edge_;
    std::size_t rows_, strips_;
    float gain_ = 0;
    std::vector<float> weights_;  // (classes, strips, taps, rows, kLeaf)
    std::vector<float> bias_;
};

}  // namespace fcnkit
