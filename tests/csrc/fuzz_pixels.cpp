// Fuzz targets of the kernels that work on pixels: colors, normalization, confusion.
#include <cmath>
#include <map>

#include "fuzz.hpp"
#include "images.hpp"

namespace fuzz {

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

}  // namespace fuzz
