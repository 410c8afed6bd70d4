#include "upsample/layer.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace fcnkit {
namespace {

// Rows between a tap and the next. Two more than there are keep the taps of a leaf from sharing a
// few places of the first-level cache.
std::size_t rows_of(std::size_t stride) { return stride + 2; }

}  // namespace

Layer::Layer(const float* weights, const float* bias, std::size_t classes, std::size_t stride,
             bool dense, bool edge)
    : classes_(classes),
      stride_(stride),
      taps_(dense ? 4 * classes : 4),
      dense_(dense),
      edge_(edge),
      rows_(rows_of(stride)),
      strips_((stride + kLeaf - 1) / kLeaf),
      bias_(classes) {
    // A leaf that begins near the end of a strip is read kLeaf rows far, and from the strip behind.
    weights_.resize(classes * strips_ * taps_ * rows_ * kLeaf + (taps_ * rows_ + kLeaf) * kLeaf);
    const std::size_t side = 2 * stride;
    for (std::size_t c = 0; c < classes; ++c) {
        bias_[c] = bias == nullptr ? 0 : bias[c];
        for (std::size_t tap = 0; tap < taps_; ++tap) {
            const std::size_t from = tap / 4, a = tap / 2 % 2, b = tap % 2;
            const std::size_t kernel = dense ? from * classes + c : c;
            for (std::size_t y = 0; y < stride; ++y) {
                const float* row = weights + (kernel * side + y + stride * a) * side + stride * b;
                for (std::size_t x = 0; x < stride; ++x) {
                    weights_[place(c, tap, y, x)] = row[x];
                }
            }
        }
    }
    find_gain();
}

void Layer::find_gain() {
    double gain = 0;
    for (std::size_t c = 0; c < classes_; ++c) {
        for (std::size_t y = 0; y < stride_; ++y) {
            for (std::size_t x = 0; x < stride_; ++x) {
                double sum = 0;
                for (std::size_t tap = 0; tap < taps_; ++tap) {
                    sum += std::abs(static_cast<double>(weight(c, tap, y, x)));
                }
                gain = std::max(gain, sum);
            }
        }
    }
    gain_ = static_cast<float>(std::min(gain, double{std::numeric_limits<float>::max()}));
}

Spot Layer::spot(std::size_t y, std::size_t x, std::size_t columns) const {
    const float* strip = weights_.data() + x / kLeaf * taps_ * rows_ * kLeaf;
    const std::size_t own = kLeaf - x % kLeaf;
    return {strip + y * kLeaf + x % kLeaf, own < columns ? own : kLeaf};
}

Leaf Layer::leaf() const {
    Leaf leaf{};
    leaf.tile_features = features();
    leaf.bias = bias_.data();
    leaf.taps = taps_;
    leaf.first_tap = dense_ ? 0 : 4;
    leaf.strip_stride = taps_ * rows_ * kLeaf;
    leaf.class_stride = strips_ * leaf.strip_stride;
    leaf.tap_stride = rows_ * kLeaf;
    return leaf;
}

}  // namespace fcnkit
