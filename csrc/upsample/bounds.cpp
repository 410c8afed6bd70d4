#include "upsample/bounds.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "upsample/pieces.hpp"

namespace fcnkit {
namespace {

constexpr double kSmallest = std::numeric_limits<float>::min();

// What is known of one weight in a part: the range of its distance from what the corners
// interpolate, and the largest magnitude.
struct Range {
    double low = 0, high = 0, largest = 0;
};

Range range_of(const Layer& layer, std::size_t c, std::size_t tap, const Part& part) {
    const auto at = [&](std::size_t y, std::size_t x) {
        return static_cast<double>(layer.weight(c, tap, part.y + y, part.x + x));
    };
    const std::size_t bottom = part.height - 1, right = part.width - 1;
    const double corners[4] = {at(0, 0), at(0, right), at(bottom, 0), at(bottom, right)};
    const double down = 1.0 / static_cast<double>(std::max<std::size_t>(bottom, 1));
    const double across = 1.0 / static_cast<double>(std::max<std::size_t>(right, 1));
    Range range;
    for (std::size_t y = 0; y < part.height; ++y) {
        const double step = static_cast<double>(y) * down;
        const double first = corners[0] + (corners[2] - corners[0]) * step;
        const double last = corners[1] + (corners[3] - corners[1]) * step;
        for (std::size_t x = 0; x < part.width; ++x) {
            const double weight = at(y, x);
            const double apart =
                weight - (first + (last - first) * (static_cast<double>(x) * across));
            range.low = std::min(range.low, apart);
            range.high = std::max(range.high, apart);
            range.largest = std::max(range.largest, std::abs(weight));
        }
    }
    return range;
}

std::size_t parts_above(std::size_t level) {  // 1 + 4 + 16 + ... of the levels before it
    return ((std::size_t{1} << 2 * level) - 1) / 3;
}

}  // namespace

Bounds::Bounds(const Layer& layer) : layer_(layer) {
    const std::size_t classes = layer.classes(), taps = layer.taps(), stride = layer.stride();
    // Every operation is off by 2^-24 at most. The logit of a pixel takes the taps one after the
    // other and then the tiles, those of the corners take the taps of all tiles one after the other.
    const double pixel = static_cast<double>(taps + kMostTiles + 2);
    const double corner = static_cast<double>(taps * kMostTiles + 4);
    unit_ = 1.01 * (pixel + corner) * std::ldexp(1.0, -24);
    const Division cell(0, stride);
    const std::size_t levels = cell.halvings();
    whole_.resize(parts_above(levels + 1) * size());
    float* to = whole_.data();
    for (std::size_t level = 0; level <= levels; ++level) {
        for (std::size_t part = 0; part < std::size_t{1} << 2 * level; ++part) {
            const std::size_t i = part >> level, j = part & ((std::size_t{1} << level) - 1);
            const std::size_t y = cell.begin(level, i), x = cell.begin(level, j);
            const std::size_t below = cell.begin(level, i + 1), behind = cell.begin(level, j + 1);
            if (y == below || x == behind) {
                to += size();  // an empty part
                continue;
            }
            for (std::size_t c = 0; c < classes; ++c) {
                for (std::size_t tap = 0; tap < taps; ++tap) {
                    const Range range =
                        range_of(layer, c, tap, {y, x, below - y, behind - x});
                    *to++ = layer.weight(c, tap, y, x);
                    *to++ = layer.weight(c, tap, y, behind - 1);
                    *to++ = layer.weight(c, tap, below - 1, x);
                    *to++ = layer.weight(c, tap, below - 1, behind - 1);
                    *to++ = rounding(std::max(range.high, -range.low), range.largest);
                }
            }
        }
    }
    for (std::size_t step = kLeaf; step == kLeaf || step < stride; step *= 2) {
        add_windows(step);
    }
    double largest = 0;
    for (const float bound : whole_) {
        largest = std::max(largest, std::abs(static_cast<double>(bound)));
    }
    for (std::size_t c = 0; c < classes; ++c) {
        // The second term is for operations with results below the smallest normal float, which may
        // lose all of them, in all three sums and in the margin.
        const double bias = std::abs(static_cast<double>(layer.bias(c)));
        slack_.push_back(static_cast<float>(1.001 * unit_ * bias +
                                            8 * (pixel + corner) * kSmallest * (1 + largest)));
    }
}

float Bounds::rounding(double spread, double largest) const {
    return static_cast<float>(1.000001 * (spread + unit_ * largest) + 4 * kSmallest);
}

void Bounds::add_windows(std::size_t step) {
    const std::size_t stride = layer_.stride(), side = std::min(2 * step, stride);
    const std::size_t count = (stride - side + step - 1) / step + 1;
    Windows windows{step, side, count, {}};
    for (std::size_t i = 0; i < count; ++i) {
        for (std::size_t j = 0; j < count; ++j) {
            const std::size_t y = std::min(i * step, stride - side);
            const std::size_t x = std::min(j * step, stride - side);
            for (std::size_t c = 0; c < layer_.classes(); ++c) {
                for (std::size_t tap = 0; tap < layer_.taps(); ++tap) {
                    // A weight is a bilinear function and something within the range. The part's
                    // corners interpolate the function exactly, and the rest stays in the range.
                    const Range range = range_of(layer_, c, tap, {y, x, side, side});
                    windows.spread.push_back(rounding(range.high - range.low, range.largest));
                }
            }
        }
    }
    windows_.push_back(std::move(windows));
}

const float* Bounds::whole(std::size_t level, std::size_t i, std::size_t j) const {
    return whole_.data() + (parts_above(level) + (i << level) + j) * size();
}

void Bounds::any(const Part& part, const std::uint8_t* classes, std::size_t count,
                 float* to) const {
    const std::size_t taps = layer_.taps(), longest = std::max(part.height, part.width);
    std::size_t level = 0;
    while (level + 1 < windows_.size() && windows_[level].step < longest) {
        ++level;
    }
    const Windows& windows = windows_[level];
    const std::size_t i = std::min(part.y / windows.step, windows.count - 1);
    const std::size_t j = std::min(part.x / windows.step, windows.count - 1);
    const float* spread =
        windows.spread.data() + (i * windows.count + j) * layer_.classes() * taps;
    const std::size_t bottom = part.y + part.height - 1, right = part.x + part.width - 1;
    for (std::size_t k = 0; k < count; ++k) {
        const std::size_t c = classes[k];
        float* bound = to + c * taps * 5;
        for (std::size_t tap = 0; tap < taps; ++tap) {
            *bound++ = layer_.weight(c, tap, part.y, part.x);
            *bound++ = layer_.weight(c, tap, part.y, right);
            *bound++ = layer_.weight(c, tap, bottom, part.x);
            *bound++ = layer_.weight(c, tap, bottom, right);
            *bound++ = spread[c * taps + tap];
        }
    }
}

}  // namespace fcnkit
