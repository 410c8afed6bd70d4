// Random calls of every kernel, on every instruction set of the machine, against answers found the
// slow way. Meant to run under sanitizers: every array is a heap block of exactly its own size.
//
//     fuzz KERNEL SECONDS [SEED]     one of the names at the end of this file, or all
//     fuzz threads SECONDS [SEED]    all of them from four threads at once, each using threads
//
// A failure prints the kernel, the instruction set and the seed of the call, and ends with 1.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <limits>
#include <map>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "dispatch.hpp"
#include "half.hpp"
#include "images.hpp"
#include "tiles.hpp"

using namespace fcnkit;

namespace {

using Bytes = std::vector<std::uint8_t>;
std::atomic<bool> failed{false};

// The random choices of one call, and who it is.
class Call {
   public:
    Call(std::string kernel, std::uint64_t seed)
        : kernel_(std::move(kernel)), seed_(seed), engine_(seed) {}

    std::size_t below(std::size_t n) { return static_cast<std::size_t>(engine_() % n); }
    bool chance(std::size_t one_in) { return below(one_in) == 0; }
    std::size_t size() { return chance(4) ? below(2000) : below(300); }
    std::size_t threads() { return 1 + below(3); }
    std::uint8_t byte() { return static_cast<std::uint8_t>(engine_()); }
    Bytes bytes(std::size_t n) {
        Bytes found(n);
        std::generate(found.begin(), found.end(), [&] { return byte(); });
        return found;
    }
    void expect(bool holds, const char* table) const {
        if (!holds) {
            failed = true;
            std::fprintf(stderr, "FAILED: fuzz %s, set %s, call seed %llu\n", kernel_.c_str(), table,
                         static_cast<unsigned long long>(seed_));
        }
    }

   private:
    std::string kernel_;
    std::uint64_t seed_;
    std::mt19937_64 engine_;
};

std::vector<const Table*> all_tables() {
    std::vector<const Table*> found;
    const std::string before = active_table().name;
    for (const std::string& name : supported_tables()) {
        select_table(name);
        found.push_back(&active_table());
    }
    select_table(before);
    return found;
}

const std::vector<const Table*>& tables() {
    static const std::vector<const Table*> found = all_tables();
    return found;
}

Colors some_colors(Call& call, unsigned classes) {
    Colors colors{};
    colors.classes = classes;
    for (unsigned label = 0; label < 256; ++label) {
        colors.rgbx[label][3] = label < classes || label == kVoid ? 0 : 1;
        for (unsigned c = 0; c < 3 && colors.rgbx[label][3] == 0; ++c) {
            colors.rgbx[label][c] = colors.channel[c][label] = call.byte();
        }
    }
    return colors;
}

unsigned some_classes(Call& call) {
    return static_cast<unsigned>(1 + call.below(call.chance(2) ? 40 : 256));
}

// Labels of which few or none have no colour.
Bytes some_labels(Call& call, std::size_t n, unsigned classes) {
    Bytes labels(n);
    const bool careless = call.chance(4);
    for (std::uint8_t& label : labels) {
        label = static_cast<std::uint8_t>(call.chance(9) ? kVoid : call.below(classes));
        if (careless && call.chance(200)) {
            label = call.byte();
        }
    }
    return labels;
}

void fuzz_decode(Call& call) {
    const unsigned classes = some_classes(call);
    const Colors colors = some_colors(call, classes);
    const Bytes labels = some_labels(call, call.size(), classes);
    Bytes expected;
    bool legal = true;
    for (const std::uint8_t label : labels) {
        legal = legal && (label < classes || label == kVoid);
        expected.insert(expected.end(), colors.rgbx[label], colors.rgbx[label] + 3);
    }
    for (const Table* table : tables()) {
        Bytes rgb(3 * labels.size());
        const bool said = table->decode(labels.data(), labels.size(), colors, rgb.data());
        call.expect(said == legal && (!legal || rgb == expected), table->name);
    }
    Bytes rgb(3 * labels.size());
    decode_image(labels.data(), labels.size(), colors, rgb.data(), call.threads());
    call.expect(!legal || rgb == expected, "active");
}

void fuzz_overlay(Call& call) {
    const unsigned classes = some_classes(call), weight = static_cast<unsigned>(call.below(257));
    const Colors colors = some_colors(call, classes);
    const Bytes labels = some_labels(call, call.size(), classes);
    const Bytes image = call.bytes(3 * labels.size());
    Bytes expected = image;
    bool legal = true;
    for (std::size_t i = 0; i < image.size(); ++i) {
        const std::uint8_t label = labels[i / 3];
        legal = legal && (label < classes || label == kVoid);
        if (label < classes) {
            const unsigned color = colors.channel[i % 3][label];
            expected[i] = static_cast<std::uint8_t>(
                (image[i] * (256 - weight) + color * weight + 128) >> 8);
        }
    }
    for (const Table* table : tables()) {
        Bytes out = image;  // in place, as is allowed
        const bool said = table->overlay(out.data(), labels.data(), labels.size(), colors, weight,
                                         out.data());
        call.expect(said == legal && (!legal || out == expected), table->name);
    }
}

void fuzz_encode(Call& call) {
    const std::size_t count = 1 + call.below(call.chance(2) ? 40 : 257);
    std::map<std::uint32_t, std::uint8_t> known;
    while (known.size() < count) {
        const auto key = static_cast<std::uint32_t>(call.below(1U << 24));
        known[call.chance(2) ? key & 0xC0C0C0U : key] = call.byte();
    }
    std::vector<std::uint32_t> keys;
    Bytes key_labels;
    for (const auto& [key, label] : known) {
        keys.push_back(key);
        key_labels.push_back(label);
    }
    const Encoder encoder = make_encoder(keys, key_labels);
    const std::size_t n = call.size();
    Bytes rgb, expected;
    std::size_t missed = 0;
    for (std::size_t i = 0; i < n; ++i) {
        std::uint32_t key = keys[call.below(keys.size())];
        key ^= call.chance(5) ? 1U << call.below(24) : 0U;
        const auto at = known.find(key);
        missed += at == known.end();
        expected.push_back(at == known.end() ? std::uint8_t{77} : at->second);
        for (unsigned c = 0; c < 3; ++c) {
            rgb.push_back(static_cast<std::uint8_t>(key >> (8 * c)));
        }
    }
    for (const Table* table : tables()) {
        Bytes labels(n);
        const std::size_t said = table->encode(rgb.data(), n, encoder, 77, labels.data());
        call.expect(said == missed && labels == expected, table->name);
    }
}

Normalize some_normalize(Call& call) {
    Normalize normalize{};
    for (std::size_t c = 0; c < 3; ++c) {
        const double mean = static_cast<double>(call.below(1000)) / 1000, std = 0.1 + mean;
        normalize.scale[c] = static_cast<float>(1 / (255 * std));
        normalize.bias[c] = static_cast<float>(-mean / std);
        for (int byte = 0; byte < 256; ++byte) {
            normalize.exact[c][byte] = static_cast<float>((byte / 255.0 - mean) / std);
        }
    }
    return normalize;
}

void fuzz_gather(Call& call) {
    const Normalize normalize = some_normalize(call);
    const std::size_t n = call.size();
    const Bytes rgb = call.bytes(3 * n);
    for (const Table* table : tables()) {
        std::vector<float> red(n), green(n), blue(n);
        float* const planes[3] = {red.data(), green.data(), blue.data()};
        table->gather_float(rgb.data(), n, normalize, planes);
        bool close = true;
        for (std::size_t i = 0; i < 3 * n; ++i) {
            const float exact = normalize.exact[i % 3][rgb[i]];
            close = close && std::abs(planes[i % 3][i / 3] - exact) <= 1e-5F;
        }
        call.expect(close, table->name);
        std::vector<std::uint16_t> halves[3] = {std::vector<std::uint16_t>(n),
                                                std::vector<std::uint16_t>(n),
                                                std::vector<std::uint16_t>(n)};
        std::uint16_t* const half_planes[3] = {halves[0].data(), halves[1].data(),
                                               halves[2].data()};
        table->gather_half(rgb.data(), n, normalize, half_planes);
    }
}

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

// Small whole numbers as any of the types; only +-infinity, NaN and up to 32 are asked for.
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
    std::vector<std::vector<T>> tiles(count, std::vector<T>(n == 0 ? 0 : (classes - 1) * stride + n));
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
        argmax_of<T>(*table)(Views<T>{pointers.data(), count, classes, stride, pitch}, n,
                             labels.data());
        call.expect(labels == expected, table->name);
    }
}

void fuzz_argmax(Call& call) {
    fuzz_argmax_of<float>(call);
    fuzz_argmax_of<Half>(call);
    fuzz_argmax_of<Brain>(call);
}

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

void fuzz_stitch(Call& call) {
    const Plan plan = some_plan(call);
    const std::size_t classes = 1 + call.below(6), h = plan.tile_height, w = plan.tile_width;
    std::vector<float> logits(plan.tiles() * classes * h * w);
    std::generate(logits.begin(), logits.end(), [&] { return some_value(call); });
    const Bytes expected = stitched_slowly(logits, classes, plan);
    Bytes labels(plan.height * plan.width);
    stitch_tiles(logits.data(), classes, plan, labels.data(), call.threads());
    call.expect(labels == expected, "active");

    Bytes banded(labels.size());
    std::vector<float> band(classes * h * plan.width);
    for (std::size_t i = 0; i < plan.tops.size(); ++i) {
        for (std::size_t j = 0; j < plan.lefts.size(); ++j) {
            const std::size_t tile = i * plan.lefts.size() + j;
            accumulate_tile(logits.data() + tile * classes * h * w, classes, plan, i, j,
                            band.data(), call.threads());
        }
        const std::size_t first = plan.tops[i];
        const std::size_t end = i + 1 < plan.tops.size() ? plan.tops[i + 1] : plan.height;
        finish_rows(band.data(), classes, plan, first, end - first,
                    banded.data() + first * plan.width, call.threads());
    }
    call.expect(banded == expected, "active, banded");
}

void fuzz_confusion(Call& call) {
    const unsigned classes = some_classes(call), ignore = static_cast<unsigned>(call.below(256));
    const std::size_t n = call.chance(3) ? call.below(5000) : call.size();
    Bytes target = some_labels(call, n, classes), predicted = some_labels(call, n, classes);
    const std::size_t run = call.chance(2) ? 1 : 1 + call.below(200);
    for (std::size_t i = 0; i < n; ++i) {
        target[i] = target[i - i % run] == kVoid ? static_cast<std::uint8_t>(ignore)
                                                 : target[i - i % run];
        predicted[i] = predicted[i] == kVoid && call.chance(50) ? predicted[i]
                       : predicted[i - i % run] == kVoid        ? std::uint8_t{0}
                                                                : predicted[i - i % run];
    }
    std::vector<std::int64_t> expected(std::size_t{classes} * classes);
    bool legal = true;
    for (std::size_t i = 0; i < n; ++i) {
        if (target[i] == ignore) {
            continue;
        }
        if (target[i] >= classes || predicted[i] >= classes) {
            legal = false;
            continue;
        }
        ++expected[std::size_t{target[i]} * classes + predicted[i]];
    }
    std::vector<std::int64_t> counts(expected.size());
    const bool said = confusion_image(target.data(), predicted.data(), n, classes, ignore,
                                      counts.data(), call.threads());
    call.expect(said == legal && (!legal || counts == expected), "active");
}

// Large enough for threads to be started.
void fuzz_threads(Call& call) {
    const std::size_t n = 1100000 + call.below(1000);
    const Colors colors = some_colors(call, 21);
    Bytes labels(n), rgb(3 * n);
    for (std::size_t i = 0; i < n; ++i) {
        labels[i] = static_cast<std::uint8_t>(i / 7 % 21);
    }
    bool same = decode_image(labels.data(), n, colors, rgb.data(), 1 + call.below(4));
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
    stitch_tiles(logits.data(), 5, plan, one.data(), 1);
    stitch_tiles(logits.data(), 5, plan, many.data(), 4);
    call.expect(one == many, "active, threads");
}

using Target = void (*)(Call&);
const std::vector<std::pair<std::string, Target>> kTargets = {
    {"decode", fuzz_decode}, {"encode", fuzz_encode}, {"overlay", fuzz_overlay},
    {"gather", fuzz_gather}, {"argmax", fuzz_argmax}, {"cut", fuzz_cut},
    {"stitch", fuzz_stitch}, {"confusion", fuzz_confusion},
};

void run(const std::string& name, Target target, double seconds, std::uint64_t seed) {
    using Clock = std::chrono::steady_clock;
    const auto end = Clock::now() + std::chrono::duration<double>(seconds);
    std::uint64_t calls = 0;
    while (Clock::now() < end && !failed) {
        Call call(name, seed + calls++);
        target(call);
    }
    std::printf("%s: %llu calls from seed %llu\n", name.c_str(),
                static_cast<unsigned long long>(calls), static_cast<unsigned long long>(seed));
}

void run_threads(double seconds, std::uint64_t seed) {
    std::vector<std::thread> threads;
    for (std::uint64_t t = 0; t < 4; ++t) {
        threads.emplace_back([=] {
            const std::uint64_t mine = seed + (t << 32);
            run("threads", fuzz_threads, seconds / 2, mine);
            for (const auto& [name, target] : kTargets) {
                run(name, target, seconds / 2 / static_cast<double>(kTargets.size()), mine);
            }
        });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
}

}  // namespace

int main(int argc, char** argv) {
    if (argc < 3) {
        std::fprintf(stderr, "usage: fuzz KERNEL|all|threads SECONDS [SEED]\n");
        return 2;
    }
    const std::string wanted = argv[1];
    const double seconds = std::atof(argv[2]);
    const std::uint64_t seed = argc > 3 ? std::strtoull(argv[3], nullptr, 10) : 1;
    std::printf("sets:");
    for (const Table* table : tables()) {
        std::printf(" %s", table->name);
    }
    std::printf("\n");
    bool known = wanted == "threads";
    if (known) {
        run_threads(seconds, seed);
    }
    for (const auto& [name, target] : kTargets) {
        if (wanted == name || wanted == "all") {
            known = true;
            run(name, target, seconds, seed);
        }
    }
    if (!known) {
        std::fprintf(stderr, "no kernel %s\n", wanted.c_str());
        return 2;
    }
    return failed ? 1 : 0;
}
