// What the fuzz targets share: random choices, random arguments and the list of targets.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "dispatch.hpp"

namespace fuzz {

using namespace fcnkit;

using Bytes = std::vector<std::uint8_t>;
inline std::atomic<bool> failed{false};

// The random choices of one call, and who it is.
class Call {
   public:
    Call(std::string kernel, std::uint64_t seed)
        : kernel_(std::move(kernel)), seed_(seed), engine_(seed) {}

    // The choices of a call that libFuzzer made up: its bytes first, what they do not decide after.
    Call(std::string kernel, const std::uint8_t* data, std::size_t size)
        : kernel_(std::move(kernel)), seed_(0), engine_(size), data_(data), left_(size) {}

    std::size_t below(std::size_t n) { return static_cast<std::size_t>(next() % n); }
    bool chance(std::size_t one_in) { return below(one_in) == 0; }
    std::size_t size() { return chance(4) ? below(2000) : below(300); }
    std::size_t threads() { return 1 + below(3); }
    std::uint8_t byte() { return static_cast<std::uint8_t>(next()); }
    Bytes bytes(std::size_t n) {
        Bytes found(n);
        std::generate(found.begin(), found.end(), [&] { return byte(); });
        return found;
    }
    void expect(bool holds, const char* table) const {
        if (!holds) {
            failed = true;
            std::fprintf(stderr, "FAILED: fuzz %s, set %s, call seed %llu\n", kernel_.c_str(),
                         table, static_cast<unsigned long long>(seed_));
        }
    }

   private:
    std::uint64_t next() {
        if (left_ == 0) {
            return engine_();
        }
        std::uint64_t value = 0;
        for (int i = 0; i < 4 && left_ > 0; ++i, --left_) {
            value = value << 8 | *data_++;
        }
        return value;
    }

    std::string kernel_;
    std::uint64_t seed_;
    std::mt19937_64 engine_;
    const std::uint8_t* data_ = nullptr;
    std::size_t left_ = 0;
};

inline std::vector<const Table*> all_tables() {
    std::vector<const Table*> found;
    const std::string before = active_table().name;
    for (const std::string& name : supported_tables()) {
        select_table(name);
        found.push_back(&active_table());
    }
    select_table(before);
    return found;
}

inline const std::vector<const Table*>& tables() {
    static const std::vector<const Table*> found = all_tables();
    return found;
}

inline Colors some_colors(Call& call, unsigned classes) {
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

inline unsigned some_classes(Call& call) {
    return static_cast<unsigned>(1 + call.below(call.chance(2) ? 40 : 256));
}

// Labels of which few or none have no color.
inline Bytes some_labels(Call& call, std::size_t n, unsigned classes) {
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

inline Normalize some_normalize(Call& call) {
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

// The targets: one random call each.
void fuzz_decode(Call& call);
void fuzz_overlay(Call& call);
void fuzz_encode(Call& call);
void fuzz_gather(Call& call);
void fuzz_confusion(Call& call);
void fuzz_argmax(Call& call);
void fuzz_cut(Call& call);
void fuzz_stitch(Call& call);
void fuzz_threads(Call& call);

}  // namespace fuzz
