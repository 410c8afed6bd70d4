// From colour to label without a 2^24-entry table: a perfect hash found once per palette.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace fcnkit {

// Colours are 24-bit keys, r | g << 8 | b << 16. A slot is key << 8 | label; an empty slot holds
// a key that hashes elsewhere, so that comparing keys is the whole test.
struct Encoder {
    std::uint32_t multiplier;
    unsigned shift;  // slot = uint32_t(key * multiplier) >> shift
    std::vector<std::uint32_t> slots;

    std::size_t slot(std::uint32_t key) const {
        return static_cast<std::uint32_t>(key * multiplier) >> shift;
    }
};

// keys: distinct colours, at most 257; labels: one per key.
Encoder make_encoder(const std::vector<std::uint32_t>& keys,
                     const std::vector<std::uint8_t>& labels);

}  // namespace fcnkit
