#include "encoder.hpp"

#include <stdexcept>

namespace fcnkit {
namespace {

// Knuth's multiplicative congruential generator for 64 bits (MMIX); any full-period one would do.
std::uint32_t next_multiplier(std::uint64_t& state) {
    state = state * 6364136223846793005ULL + 1442695040888963407ULL;
    return static_cast<std::uint32_t>(state >> 32) | 1U;
}

bool all_apart(const Encoder& encoder, const std::vector<std::uint32_t>& keys,
               std::vector<unsigned>& seen, unsigned stamp) {
    for (const std::uint32_t key : keys) {
        unsigned& slot = seen[encoder.slot(key)];
        if (slot == stamp) {
            return false;
        }
        slot = stamp;
    }
    return true;
}

// Empty slots hold a key that belongs to another slot, so no pixel can match them.
void fill(Encoder& encoder, const std::vector<std::uint32_t>& keys,
          const std::vector<std::uint8_t>& labels) {
    std::uint32_t first_elsewhere = 1;
    while (encoder.slot(first_elsewhere) == 0) {
        ++first_elsewhere;
    }
    encoder.slots.assign(encoder.slots.size(), 0U);  // key 0 hashes to slot 0: wrong anywhere else
    encoder.slots[0] = first_elsewhere << 8;
    for (std::size_t i = 0; i < keys.size(); ++i) {
        encoder.slots[encoder.slot(keys[i])] = keys[i] << 8 | labels[i];
    }
}

}  // namespace

Encoder make_encoder(const std::vector<std::uint32_t>& keys,
                     const std::vector<std::uint8_t>& labels) {
    // With n keys in m slots a random multiplier succeeds with probability near exp(-n*n / 2m):
    // start where that is about one in fifty, and double the table if luck is out.
    std::uint64_t state = 1;
    for (unsigned bits = 4; bits <= 20; ++bits) {
        const std::size_t size = std::size_t{1} << bits;
        if (keys.size() * keys.size() > 8 * size) {
            continue;
        }
        Encoder encoder{0, 32 - bits, std::vector<std::uint32_t>(size)};
        std::vector<unsigned> seen(size, 0);
        for (unsigned attempt = 1; attempt <= 1000; ++attempt) {
            encoder.multiplier = next_multiplier(state);
            if (all_apart(encoder, keys, seen, attempt)) {
                fill(encoder, keys, labels);
                return encoder;
            }
        }
    }
    throw std::invalid_argument("no perfect hash for these colours; are two of them equal?");
}

}  // namespace fcnkit
