// The fuzz targets of upsample_argmax and of its bounds.
#include <cmath>

#include "fuzz.hpp"
#include "half.hpp"
#include "upsample/pieces.hpp"
#include "upsample/upsample.hpp"

namespace fuzz {
namespace {

// A call: a layer, a plan, and scores whose sums are exact, or any scores.
struct Case {
    std::size_t classes, stride, height, width;  // height and width: scores of a tile
    bool dense, edge;
    std::vector<float> weights, bias, scores;
    Plan plan;

    float weight(std::size_t from, std::size_t to, std::size_t k, std::size_t l) const {
        const std::size_t side = 2 * stride;
        const std::size_t kernel = dense ? from * classes + to : to;
        return weights[(kernel * side + k) * side + l];
    }

    double score(std::size_t tile, std::size_t c, std::ptrdiff_t i, std::ptrdiff_t j) const {
        const auto last = [](std::size_t n) { return static_cast<std::ptrdiff_t>(n) - 1; };
        const std::ptrdiff_t y = std::clamp(i, std::ptrdiff_t{0}, last(height));
        const std::ptrdiff_t x = std::clamp(j, std::ptrdiff_t{0}, last(width));
        if (!edge && (y != i || x != j)) {
            return 0;
        }
        const std::size_t row = (tile * classes + c) * height + static_cast<std::size_t>(y);
        return static_cast<double>(scores[row * width + static_cast<std::size_t>(x)]);
    }

    // The logit that a tile gives a pixel: all scores whose kernels reach it.
    double logit(std::size_t tile, std::size_t c, std::size_t y, std::size_t x) const {
        const auto s = static_cast<std::ptrdiff_t>(stride);
        const auto row = static_cast<std::ptrdiff_t>(y), column = static_cast<std::ptrdiff_t>(x);
        double sum = static_cast<double>(bias[c]);
        for (std::ptrdiff_t i = -1; i <= static_cast<std::ptrdiff_t>(height); ++i) {
            const std::ptrdiff_t k = row - (s * i - s / 2);
            for (std::ptrdiff_t j = -1; k >= 0 && k < 2 * s &&
                                        j <= static_cast<std::ptrdiff_t>(width); ++j) {
                const std::ptrdiff_t l = column - (s * j - s / 2);
                const std::size_t first = dense ? 0 : c, last = dense ? classes : c + 1;
                for (std::size_t from = first; l >= 0 && l < 2 * s && from < last; ++from) {
                    sum += score(tile, from, i, j) *
                           static_cast<double>(weight(from, c, static_cast<std::size_t>(k),
                                                      static_cast<std::size_t>(l)));
                }
            }
        }
        return sum;
    }
};

Case some_case(Call& call, bool exact) {
    static constexpr std::size_t kStrides[] = {2, 4, 8, 8, 12, 16, 20, 32};
    Case made{};
    made.stride = kStrides[call.below(8)];
    made.dense = call.chance(2);
    made.edge = call.chance(2);
    made.classes = 1 + call.below(made.dense || !call.chance(8) ? 5 : 255);
    made.height = 1 + call.below(1 + 40 / made.stride);
    made.width = 1 + call.below(1 + 120 / made.stride);
    Plan& plan = made.plan;
    plan.tile_height = made.height * made.stride;
    plan.tile_width = made.width * made.stride;
    plan.height = 1 + call.below(50);
    plan.width = 1 + call.below(call.chance(4) ? 300 : 100);
    const auto starts = [&](std::size_t extent, std::size_t side) {
        std::vector<std::size_t> found{0};
        while (found.back() + side < extent) {
            found.push_back(std::min(found.back() + 1 + call.below(side), extent - side));
        }
        return found;
    };
    plan.tops = starts(plan.height, plan.tile_height);
    plan.lefts = starts(plan.width, plan.tile_width);
    if (plan.tiles() > 60) {
        plan.height = plan.tile_height;
        plan.width = plan.tile_width;
        plan.tops = plan.lefts = {0};
    }
    // In eighths and whole numbers every sum is exact.
    const bool smooth = call.chance(2);
    const auto number = [&](std::size_t range) {
        return static_cast<float>(call.below(2 * range + 1)) - static_cast<float>(range);
    };
    const std::size_t side = 2 * made.stride;
    std::vector<float> some(61);  // repeated, because random numbers take most of the time
    std::generate(some.begin(), some.end(), [&] { return number(8) / 8; });
    const std::size_t step = 1 + call.below(60);
    made.weights.resize((made.dense ? made.classes : 1) * made.classes * side * side);
    for (std::size_t k = 0; k < made.weights.size(); ++k) {
        const std::size_t kernel = k / (side * side);
        const bool own = !made.dense || kernel / made.classes == kernel % made.classes;
        // Constant for a class: every part of a block is exactly what its corners say.
        made.weights[k] = smooth ? (own ? 1.0F : 0.0F) : some[k * step % 61];
    }
    for (std::size_t k = smooth ? call.below(20) : 0; k > 0; --k) {
        made.weights[call.below(made.weights.size())] += number(4);
    }
    const auto value = [&]() -> float {
        if (exact) {
            return number(3);
        }
        switch (call.below(12)) {
            case 0:
                return number(9) * 1e-42F;
            case 1:
                return number(9) * 1e33F;
            case 2:
                return 1.0F + number(4) * 0x1p-23F;
            default:
                return number(1000) / 77;
        }
    };
    made.bias.resize(made.classes);
    std::generate(made.bias.begin(), made.bias.end(), value);
    made.scores.resize(plan.tiles() * made.classes * made.height * made.width);
    std::generate(made.scores.begin(), made.scores.end(), value);
    return made;
}

Bytes labeled_slowly(const Case& made) {
    const Plan& plan = made.plan;
    Bytes labels;
    for (std::size_t y = 0; y < plan.height; ++y) {
        for (std::size_t x = 0; x < plan.width; ++x) {
            std::vector<double> sums(made.classes);
            for (std::size_t tile = 0; tile < plan.tiles(); ++tile) {
                const std::size_t top = plan.tops[tile / plan.lefts.size()];
                const std::size_t left = plan.lefts[tile % plan.lefts.size()];
                const bool sees = y >= top && y < top + plan.tile_height && x >= left &&
                                  x < left + plan.tile_width;
                for (std::size_t c = 0; sees && c < made.classes; ++c) {
                    sums[c] += made.logit(tile, c, y - top, x - left);
                }
            }
            const auto best = std::max_element(sums.begin(), sums.end());
            labels.push_back(static_cast<std::uint8_t>(best - sums.begin()));
        }
    }
    return labels;
}

// Row of tiles by row of tiles, as they come.
Bytes streamed(const Case& made, Upsampling& upsampling, const Table& table) {
    const Plan& plan = made.plan;
    const std::size_t row = plan.lefts.size() * made.classes * made.height * made.width;
    Bytes labels(plan.height * plan.width);
    for (std::size_t i = 0; i < plan.tops.size(); ++i) {
        std::size_t first = 0;
        while (plan.tops[first] + plan.tile_height <= plan.tops[i]) {
            ++first;
        }
        const std::size_t end = i + 1 < plan.tops.size() ? plan.tops[i + 1] : plan.height;
        const float* from = made.scores.data();
        const std::vector<float> scores(from + first * row, from + (i + 1) * row);
        Bytes rows((end - plan.tops[i]) * plan.width);
        upsample_argmax(scores.data(), plan, {first, i + 1, plan.tops[i], end}, upsampling, table,
                        true, {rows.data(), nullptr, nullptr}, 1);
        std::copy(rows.begin(), rows.end(),
                  labels.begin() + static_cast<std::ptrdiff_t>(plan.tops[i] * plan.width));
    }
    return labels;
}

void fuzz_upsample(Call& call) {
    const bool exact = call.chance(3);
    const Case made = some_case(call, exact);
    const Plan& plan = made.plan;
    Upsampling upsampling(made.weights.data(), made.bias.data(), made.classes, made.stride,
                          made.dense, made.edge);
    const Bytes expected = exact ? labeled_slowly(made) : Bytes();
    const Rows all{0, plan.tops.size(), 0, plan.height};
    for (const Table* table : tables()) {
        Bytes labels(plan.height * plan.width), full(labels.size()), sure(3 * labels.size());
        upsample_argmax(made.scores.data(), plan, all, upsampling, *table, true,
                        {labels.data(), nullptr, nullptr}, call.threads());
        upsample_argmax(made.scores.data(), plan, all, upsampling, *table, false,
                        {full.data(), nullptr, nullptr}, 1);
        call.expect(labels == full, table->name);
        std::uint8_t* confidence = sure.data() + labels.size();
        upsample_argmax(made.scores.data(), plan, all, upsampling, *table, true,
                        {sure.data(), confidence, confidence + labels.size()}, call.threads());
        call.expect(std::equal(labels.begin(), labels.end(), sure.begin()), table->name);
        call.expect(!exact || labels == expected, table->name);
        call.expect(streamed(made, upsampling, *table) == labels, table->name);
    }
}

const Register upsample_target("upsample", fuzz_upsample);

// Whether the bounds of a part hold for each of its weights.
bool holds(const Layer& layer, std::size_t c, const Part& part, const float* bounds) {
    bool all = true;
    for (std::size_t tap = 0; tap < layer.taps(); ++tap, bounds += 5) {
        for (std::size_t y = 0; y < part.height; ++y) {
            for (std::size_t x = 0; x < part.width; ++x) {
                const double down = part.height == 1 ? 0 : static_cast<double>(y) /
                                                               static_cast<double>(part.height - 1);
                const double right = part.width == 1 ? 0 : static_cast<double>(x) /
                                                               static_cast<double>(part.width - 1);
                const auto corner = [&](std::size_t k) { return static_cast<double>(bounds[k]); };
                const double between =
                    (1 - down) * ((1 - right) * corner(0) + right * corner(1)) +
                    down * ((1 - right) * corner(2) + right * corner(3));
                const double weight =
                    static_cast<double>(layer.weight(c, tap, part.y + y, part.x + x));
                all = all && std::abs(weight - between) <= corner(4);
            }
        }
    }
    return all;
}

void fuzz_bounds(Call& call) {
    const Case made = some_case(call, true);
    const std::size_t stride = made.stride;
    const Layer layer(made.weights.data(), made.bias.data(), made.classes, stride, made.dense,
                      made.edge);
    const Bounds bounds(layer);
    const Division cell(0, stride);
    const std::size_t level = call.below(cell.halvings() + 1), c = call.below(made.classes);
    const std::size_t i = call.below(std::size_t{1} << level);
    const std::size_t j = call.below(std::size_t{1} << level);
    const std::size_t top = cell.begin(level, i), left = cell.begin(level, j);
    const Part whole{top, left, cell.begin(level, i + 1) - top, cell.begin(level, j + 1) - left};
    call.expect(holds(layer, c, whole, bounds.whole(level, i, j) + c * layer.taps() * 5),
                "whole");
    std::vector<float> found(bounds.size());
    for (int k = 0; k < 20; ++k) {
        const std::size_t y = call.below(stride), x = call.below(stride);
        const Part part{y, x, 1 + call.below(stride - y), 1 + call.below(stride - x)};
        const auto of = static_cast<std::uint8_t>(c);
        bounds.any(part, &of, 1, found.data());
        call.expect(holds(layer, c, part, found.data() + c * layer.taps() * 5), "any");
    }
}

const Register bounds_target("bounds", fuzz_bounds);

}  // namespace
}  // namespace fuzz
