// Fuzz targets of the kernels that work on logits and tiles, and of the threads.
#include <cmath>
#include <cstring>
#include <limits>

#include "fuzz.hpp"
#include "half.hpp"
#include "images.hpp"
#include "tiles.hpp"

namespace fuzz {
namespace {

float some_value(Call& call) {
    switch (call.below(call.chance(3) ? 8 : 400)) {
        case 0:
            return std::numeric_limits<float>::quiet_NaN();
        case 1:
            return std::numeric_limits<float>::infinity();
        case 2:
            return -std::numeric_limits<float>::infinity();
        default:
            return static_cast<float>(call.below(64)) - 32.0F;
    }
}

// Small whole numbers as any of the types; only +-infinity, NaN and up to 32 occur.
float convert(float value, float) { return value; }
Brain convert(float value, Brain) {
    std::uint32_t bits;
    std::memcpy(&bits, &value, 4);
    return {static_cast<std::uint16_t>(bits >> 16)};
}
Half convert(float value, Half) {
    std::uint32_t bits;
    std::memcpy(&bits, &value, 4);
    const std::uint32_t sign = bits >> 16 & 0x8000U;
    if (value != value || std::isinf(value)) {
        return {static_cast<std::uint16_t>(sign | 0x7C00U | (value != value ? 0x200U : 0U))};
    }
    const std::uint32_t magnitude = value == 0 ? 0 : (bits >> 13 & 0x3FFFFU) - (112U << 10);
    return {static_cast<std::uint16_t>(sign | magnitude)};
}

std::uint8_t first_best(const std::vector<float>& logits) {
    std::size_t best = 0;
    for (std::size_t c = 1; c < logits.size() && logits[best] == logits[best]; ++c) {
        if (logits[c] != logits[c] || logits[c] > logits[best]) {
            best = c;
        }
    }
    return static_cast<std::uint8_t>(best);
}

template <class T>
void fuzz_argmax_of(Call& call) {
    const std::size_t n = call.size(), classes = 1 + call.below(call.chance(8) ? 256 : 24);
    const std::size_t stride = n + call.below(9), count = call.chance(2) ? 1 : 1 + call.below(5);
    const std::size_t pitch = call.chance(2) ? 0 : n;
    const std::size_t size = n == 0 ? 0 : (classes - 1) * stride + n;
    std::vector<std::vector<T>> tiles(count, std::vector<T>(size));
    std::vector<const T*> pointers;
    for (std::vector<T>& tile : tiles) {
        std::generate(tile.begin(), tile.end(), [&] { return convert(some_value(call), T{}); });
        pointers.push_back(tile.data());
    }
    Bytes expected(n);
    for (std::size_t x = 0; x < n; ++x) {
        std::vector<float> sums(classes);
        for (std::size_t c = 0; c < classes; ++c) {
            sums[c] = to_float(tiles[0][c * stride + x]);
            for (std::size_t t = 1; t < count; ++t) {
                sums[c] += to_float(tiles[t][c * stride + x]);
            }
        }
        expected[x] = first_best(sums);
    }
    for (const Table* table : tables()) {
        Bytes labels(n);
        table->argmax.of<T>()(Views<T>{pointers.data(), count, classes, stride, pitch}, n,
                             labels.data());
        call.expect(labels == expected, table->name);
    }
}

void fuzz_argmax(Call& call) {
    fuzz_argmax_of<float>(call);
    fuzz_argmax_of<Half>(call);
    fuzz_argmax_of<Brain>(call);
}

const Register argmax_target("argmax", fuzz_argmax);

// 255 times the probabilities of the first and of the second class.
std::pair<double, double> softmax_slowly(const std::vector<double>& logits) {
    std::vector<double> powers;
    const double best = *std::max_element(logits.begin(), logits.end());
    double total = 0;
    for (const double logit : logits) {
        powers.push_back(std::exp(logit - best));
        total += powers.back();
    }
    std::sort(powers.rbegin(), powers.rend());
    return {255 * powers[0] / total, powers.size() > 1 ? 255 * powers[1] / total : 0};
}

template <class T>
void fuzz_confidence_of(Call& call) {
    const std::size_t n = call.size(), classes = 1 + call.below(call.chance(8) ? 256 : 24);
    const std::size_t count = call.chance(2) ? 1 : 1 + call.below(5);
    const std::size_t size = n == 0 ? 0 : classes * n;
    std::vector<std::vector<T>> tiles(count, std::vector<T>(size));
    std::vector<const T*> pointers;
    for (std::vector<T>& tile : tiles) {
        std::generate(tile.begin(), tile.end(), [&] { return convert(some_value(call), T{}); });
        pointers.push_back(tile.data());
    }
    const Views<T> views{pointers.data(), count, classes, n, 0};
    const float share = 1.0F / static_cast<float>(count);
    for (const Table* table : tables()) {
        Bytes expected(n), labels(n), confidence(n), margin(n);
        table->argmax.of<T>()(views, n, expected.data());
        table->confidence.of<T>()(views, n, share,
                                  {labels.data(), confidence.data(), margin.data()});
        call.expect(labels == expected, table->name);
        for (std::size_t x = 0; x < n; ++x) {
            std::vector<double> means(classes);
            bool finite = true;
            for (std::size_t c = 0; c < classes; ++c) {
                for (const std::vector<T>& tile : tiles) {
                    means[c] += static_cast<double>(to_float(tile[c * n + x]));
                }
                means[c] /= static_cast<double>(count);
                finite = finite && means[c] < std::numeric_limits<double>::infinity();
            }
            const double best = means[labels[x]];
            if (!finite || std::isinf(best)) {
                // NaN among others may win or lose, but no label of it is sure.
                call.expect(std::isfinite(best) || (confidence[x] == 0 && margin[x] == 0),
                            table->name);
                continue;
            }
            const auto [first, second] = softmax_slowly(means);
            call.expect(std::abs(confidence[x] - first) <= 0.5256 &&
                            std::abs(margin[x] - (first - second)) <= 0.5256,
                        table->name);
        }
    }
}

void fuzz_confidence(Call& call) {
    fuzz_confidence_of<float>(call);
    fuzz_confidence_of<Half>(call);
    fuzz_confidence_of<Brain>(call);
}

const Register confidence_target("confidence", fuzz_confidence);

std::vector<std::size_t> some_starts(Call& call, std::size_t extent, std::size_t side) {
    std::vector<std::size_t> starts{0};
    while (starts.back() + side < extent) {
        starts.push_back(std::min(starts.back() + 1 + call.below(side), extent - side));
    }
    return starts;
}

Plan some_plan(Call& call) {
    Plan plan{1 + call.below(60), 1 + call.below(200), 8 + call.below(60), 8 + call.below(200),
              {}, {}};
    plan.tops = some_starts(call, plan.height, plan.tile_height);
    plan.lefts = some_starts(call, plan.width, plan.tile_width);
    if (plan.tiles() > 40) {
        plan = {plan.height, plan.width, plan.height, plan.width, {0}, {0}};
    }
    return plan;
}

// Where the mirrored position is, found by walking.
std::size_t bounce(std::size_t steps, std::size_t size) {
    std::size_t at = 0;
    bool forward = true;
    for (; steps > 0 && size > 1; --steps) {
        forward = at == 0 ? true : at + 1 == size ? false : forward;
        at += forward ? 1 : std::size_t(-1);
    }
    return at;
}

void fuzz_cut(Call& call) {
    const Plan plan = some_plan(call);
    const Bytes image = call.bytes(3 * plan.height * plan.width);
    const std::size_t h = plan.tile_height, w = plan.tile_width, tiles = plan.tiles();
    const Normalize normalize = some_normalize(call);
    Bytes out(3 * tiles * h * w);
    std::vector<float> planes(out.size());
    cut_tiles(image.data(), plan, out.data(), call.threads());
    gather_tiles(image.data(), plan, normalize, planes.data(), call.threads());
    bool same = true;
    for (std::size_t k = 0; k < out.size(); ++k) {
        const std::size_t c = k % 3, x = k / 3 % w, y = k / 3 / w % h, tile = k / 3 / w / h;
        const std::size_t row = bounce(plan.tops[tile / plan.lefts.size()] + y, plan.height);
        const std::size_t column = bounce(plan.lefts[tile % plan.lefts.size()] + x, plan.width);
        const std::uint8_t byte = image[3 * (row * plan.width + column) + c];
        const float value = planes[((tile * 3 + c) * h + y) * w + x];
        same = same && out[k] == byte && std::abs(value - normalize.exact[c][byte]) <= 1e-5F;
    }
    call.expect(same, "active");
}

const Register cut_target("cut", fuzz_cut);

Bytes stitched_slowly(const std::vector<float>& logits, std::size_t classes, const Plan& plan) {
    const std::size_t h = plan.tile_height, w = plan.tile_width;
    Bytes labels;
    for (std::size_t y = 0; y < plan.height; ++y) {
        for (std::size_t x = 0; x < plan.width; ++x) {
            std::vector<float> sums(classes);
            for (std::size_t tile = 0; tile < plan.tiles(); ++tile) {
                const std::size_t top = plan.tops[tile / plan.lefts.size()];
                const std::size_t left = plan.lefts[tile % plan.lefts.size()];
                const bool sees = y >= top && y < top + h && x >= left && x < left + w;
                for (std::size_t c = 0; sees && c < classes; ++c) {
                    sums[c] += logits[((tile * classes + c) * h + y - top) * w + x - left];
                }
            }
            labels.push_back(first_best(sums));
        }
    }
    return labels;
}

// Labels without their confidence.
Results only(std::uint8_t* labels) { return {labels, nullptr, nullptr}; }

void fuzz_stitch(Call& call) {
    const Plan plan = some_plan(call);
    const std::size_t classes = 1 + call.below(6), h = plan.tile_height, w = plan.tile_width;
    std::vector<float> logits(plan.tiles() * classes * h * w);
    std::generate(logits.begin(), logits.end(), [&] { return some_value(call); });
    const Bytes expected = stitched_slowly(logits, classes, plan);
    Bytes labels(plan.height * plan.width);
    stitch_tiles(logits.data(), classes, plan, only(labels.data()), call.threads());
    call.expect(labels == expected, "active");

    Bytes banded(labels.size());
    const HeldShape shape = held_shape(plan);
    std::vector<float> below(classes * shape.rows * plan.width);
    std::vector<float> right(shape.steps * classes * shape.columns);
    const Held held{below.data(), right.data(), shape};
    for (std::size_t tile = 0; tile < plan.tiles(); ++tile) {
        const std::size_t i = tile / plan.lefts.size(), j = tile % plan.lefts.size();
        add_tile(logits.data() + tile * classes * h * w, classes, plan, i, j, held,
                 only(banded.data() + plan.tops[i] * plan.width), call.threads());
    }
    call.expect(banded == expected, "active, banded");
}

const Register stitch_target("stitch", fuzz_stitch);

}  // namespace

void fuzz_threads(Call& call) {
    const std::size_t n = 1100000 + call.below(1000);
    const Colors colors = some_colors(call, 21);
    Bytes labels(n), rgb(3 * n);
    for (std::size_t i = 0; i < n; ++i) {
        labels[i] = static_cast<std::uint8_t>(i / 7 % 21);
    }
    const auto illegal = [&](const Table& table, std::size_t begin, std::size_t end) {
        return !table.decode(labels.data() + begin, end - begin, colors, rgb.data() + 3 * begin);
    };
    bool same = sum_over_pixels(n, 4, 1 + call.below(4), illegal) == 0;
    for (std::size_t i = 0; i < 3 * n; i += 1 + call.below(50)) {
        same = same && rgb[i] == colors.rgbx[labels[i / 3]][i % 3];
    }
    std::vector<std::int64_t> counts(21 * 21);
    same = confusion_image(labels.data(), labels.data(), n, 21, 255, counts.data(),
                           1 + call.below(4)) && same;
    std::int64_t total = 0;
    for (std::size_t c = 0; c < 21; ++c) {
        total += counts[c * 22];
    }
    call.expect(same && total == static_cast<std::int64_t>(n), "active, threads");
    const Plan plan{300, 1000, 160, 512, {0, 140}, {0, 488}};
    std::vector<float> logits(plan.tiles() * 5 * plan.tile_height * plan.tile_width);
    for (std::size_t i = 0; i < logits.size(); ++i) {
        logits[i] = static_cast<float>(i * 2654435761U % 61);
    }
    Bytes one(plan.height * plan.width), many(one.size());
    stitch_tiles(logits.data(), 5, plan, only(one.data()), 1);
    stitch_tiles(logits.data(), 5, plan, only(many.data()), 4);
    call.expect(one == many, "active, threads");
    const HeldShape shape = held_shape(plan);
    std::vector<float> below(5 * shape.rows * plan.width);
    std::vector<float> right(shape.steps * 5 * shape.columns);
    const Held held{below.data(), right.data(), shape};
    for (std::size_t tile = 0; tile < plan.tiles(); ++tile) {
        const std::size_t i = tile / plan.lefts.size(), j = tile % plan.lefts.size();
        add_tile(logits.data() + tile * 5 * plan.tile_height * plan.tile_width, 5, plan, i, j, held,
                 only(many.data() + plan.tops[i] * plan.width), 4);
    }
    call.expect(one == many, "active, threads, banded");
}

}  // namespace fuzz
