// How far the weights of a layer are from interpolating: what upsample_argmax leaves pixels out by.
#pragma once

#include <cstddef>
#include <vector>

#include "upsample/layer.hpp"

namespace fcnkit {

// Pixels of a cell.
struct Part {
    std::size_t y, x, height, width;
};

// Bounds as PartBound reads them, (classes, taps, 5).
class Bounds {
   public:
    // They hold for sums over that many tiles. More are summed without bounds.
    static constexpr std::size_t kMostTiles = 16;

    explicit Bounds(const Layer& layer);

    // Those of part (i, j) of a whole cell after `level` halvings.
    const float* whole(std::size_t level, std::size_t i, std::size_t j) const;
    // Writes those of any part for some classes: looser, found from windows around the part.
    void any(const Part& part, const std::uint8_t* classes, std::size_t count, float* to) const;

    std::size_t size() const { return layer_.classes() * layer_.taps() * 5; }
    const float* slack() const { return slack_.data(); }

   private:
    // Squares of one size that lie `step` apart: a part of at most `step` pixels is in one of them.
    struct Windows {
        std::size_t step, side, count;  // count along an axis
        std::vector<float> spread;      // (count, count, classes, taps)
    };

    void add_windows(std::size_t step);
    float rounding(double spread, double largest) const;

    const Layer& layer_;
    double unit_;  // relative error of the logit of a pixel and of those of the corners
    std::vector<float> whole_;
    std::vector<Windows> windows_;
    std::vector<float> slack_;
};

}  // namespace fcnkit
