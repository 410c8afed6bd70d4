// From color to label without a 2^24-entry table: perfect hashes found once per palette.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace fcnkit {

// A table for byte-wide registers: the hash of a color is a linear function of its 24 bits over
// GF(2), one 8x8 bit matrix per channel, the three results combined by exclusive or. Byte 7 - i of
// a matrix holds the bits that make bit i, as the instruction GF2P8AFFINEQB reads it.
struct LinearTable {
    std::size_t slots;  // 64, 128 or 256: hashes are below
    std::uint64_t matrix[3];
    std::uint8_t half[3][2][16];  // the hash of each value of the lower and upper half byte
    std::uint8_t channel[3][256];  // the color in each slot, by channel
    std::uint8_t label[256];
};

// Colors are 24-bit keys, r | g << 8 | b << 16. A slot is key << 8 | label; an empty slot holds
// a key that hashes elsewhere, so that comparing keys is the whole test. The same is true of the
// linear tables: one of 64 or 128 slots where few colors fit into that, else two of 256 slots, of
// which a color is in one (cuckoo hashing), else, if no such pair was found, none.
struct Encoder {
    std::uint32_t multiplier;
    unsigned shift;  // slot = uint32_t(key * multiplier) >> shift
    std::vector<std::uint32_t> slots;
    int linear_tables;
    LinearTable linear[2];

    std::size_t slot(std::uint32_t key) const {
        return static_cast<std::uint32_t>(key * multiplier) >> shift;
    }
};

// keys: distinct colors, 1..257; labels: one per key.
Encoder make_encoder(const std::vector<std::uint32_t>& keys,
                     const std::vector<std::uint8_t>& labels);

}  // namespace fcnkit
