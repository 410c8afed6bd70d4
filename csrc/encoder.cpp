#include "encoder.hpp"

#include <array>
#include <stdexcept>
#include <utility>

namespace fcnkit {
namespace {

using Keys = std::vector<std::uint32_t>;
using Labels = std::vector<std::uint8_t>;

// Knuth's multiplicative congruential generator for 64 bits (MMIX); any full-period one would do.
class Random {
   public:
    std::uint32_t operator()() {
        state_ = state_ * 6364136223846793005ULL + 1442695040888963407ULL;
        return static_cast<std::uint32_t>(state_ >> 32);
    }

   private:
    std::uint64_t state_ = 1;
};

bool all_apart(const Encoder& encoder, const Keys& keys, std::vector<unsigned>& seen,
               unsigned stamp) {
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
void fill(Encoder& encoder, const Keys& keys, const Labels& labels) {
    std::uint32_t elsewhere = 1;
    while (encoder.slot(elsewhere) == 0) {
        ++elsewhere;
    }
    encoder.slots.assign(encoder.slots.size(), 0U);  // key 0 hashes to slot 0: wrong anywhere else
    encoder.slots[0] = elsewhere << 8;
    for (std::size_t i = 0; i < keys.size(); ++i) {
        encoder.slots[encoder.slot(keys[i])] = keys[i] << 8 | labels[i];
    }
}

Encoder multiplicative(const Keys& keys, const Labels& labels, Random& random) {
    // With n keys in m slots a random multiplier succeeds with probability near exp(-n*n / 2m):
    // start where that is about one in fifty, and double the table if luck is out.
    for (unsigned bits = 4; bits <= 20; ++bits) {
        const std::size_t size = std::size_t{1} << bits;
        if (keys.size() * keys.size() > 8 * size) {
            continue;
        }
        Encoder encoder{};
        encoder.shift = 32 - bits;
        encoder.slots.resize(size);
        std::vector<unsigned> seen(size, 0);
        for (unsigned attempt = 1; attempt <= 1000; ++attempt) {
            encoder.multiplier = random() | 1U;
            if (all_apart(encoder, keys, seen, attempt)) {
                fill(encoder, keys, labels);
                return encoder;
            }
        }
    }
    throw std::invalid_argument("no perfect hash for these colors; are two of them equal?");
}

// A random linear hash: columns[b] is what bit b of the key contributes.
class LinearHash {
   public:
    LinearHash(Random& random, unsigned slots) : slots_(slots) {
        for (std::uint8_t& column : columns_) {
            column = static_cast<std::uint8_t>(random() >> 24 & (slots - 1));
        }
    }

    std::size_t slots() const { return slots_; }

    std::size_t operator()(std::uint32_t key) const {
        unsigned hash = 0;
        for (unsigned b = 0; b < 24; ++b) {
            hash ^= (key >> b & 1U) * columns_[b];
        }
        return hash;
    }

    std::uint64_t matrix(unsigned channel) const {
        std::uint64_t rows = 0;
        for (unsigned bit = 0; bit < 8; ++bit) {
            for (unsigned b = 0; b < 8; ++b) {
                const std::uint64_t one = columns_[8 * channel + b] >> bit & 1U;
                rows |= one << (8 * (7 - bit) + b);
            }
        }
        return rows;
    }

   private:
    std::array<std::uint8_t, 24> columns_{};
    std::size_t slots_;
};

constexpr int kEmpty = -1;
using Slots = std::array<int, 256>;  // index of the key in each slot, or kEmpty

void set(LinearTable& table, std::size_t slot, std::uint32_t key, std::uint8_t label) {
    for (unsigned c = 0; c < 3; ++c) {
        table.channel[c][slot] = static_cast<std::uint8_t>(key >> (8 * c));
    }
    table.label[slot] = label;
}

LinearTable make_table(const LinearHash& hash, const Slots& slots, const Keys& keys,
                       const Labels& labels) {
    LinearTable table{};  // empty slots: key 0, which hashes to slot 0
    table.slots = hash.slots();
    std::uint32_t elsewhere = 1;
    while (hash(elsewhere) == 0) {
        ++elsewhere;
    }
    set(table, 0, elsewhere, 0);
    for (std::size_t slot = 0; slot < slots.size(); ++slot) {
        if (slots[slot] != kEmpty) {
            const auto i = static_cast<std::size_t>(slots[slot]);
            set(table, slot, keys[i], labels[i]);
        }
    }
    for (unsigned channel = 0; channel < 3; ++channel) {
        table.matrix[channel] = hash.matrix(channel);
        for (unsigned value = 0; value < 16; ++value) {
            const std::uint32_t key = value << (8 * channel);
            table.half[channel][0][value] = static_cast<std::uint8_t>(hash(key));
            table.half[channel][1][value] = static_cast<std::uint8_t>(hash(key << 4));
        }
    }
    return table;
}

// Puts every key into one of the tables, moving others along as needed. False if that fails.
template <std::size_t kTables>
bool place(const std::array<LinearHash, kTables>& hashes, const Keys& keys,
           std::array<Slots, kTables>& slots) {
    for (Slots& table : slots) {
        table.fill(kEmpty);
    }
    for (std::size_t i = 0; i < keys.size(); ++i) {
        int homeless = static_cast<int>(i);
        for (std::size_t move = 0; homeless != kEmpty; ++move) {
            if (move == (kTables == 1 ? 1 : 100)) {
                return false;
            }
            const std::size_t t = move % kTables;
            std::swap(homeless, slots[t][hashes[t](keys[static_cast<std::size_t>(homeless)])]);
        }
    }
    return true;
}

bool one_table(unsigned size, const Keys& keys, const Labels& labels, Random& random,
               Encoder& encoder) {
    std::array<Slots, 1> slots;
    for (int attempt = 0; attempt < 2000; ++attempt) {
        const std::array<LinearHash, 1> hashes{LinearHash(random, size)};
        if (place(hashes, keys, slots)) {
            encoder.linear[0] = make_table(hashes[0], slots[0], keys, labels);
            encoder.linear_tables = 1;
            return true;
        }
    }
    return false;
}

bool two_tables(const Keys& keys, const Labels& labels, Random& random, Encoder& encoder) {
    std::array<Slots, 2> slots;
    for (int attempt = 0; attempt < 200; ++attempt) {
        const std::array<LinearHash, 2> hashes{LinearHash(random, 256), LinearHash(random, 256)};
        if (place(hashes, keys, slots)) {
            for (std::size_t t = 0; t < 2; ++t) {
                encoder.linear[t] = make_table(hashes[t], slots[t], keys, labels);
            }
            encoder.linear_tables = 2;
            return true;
        }
    }
    return false;
}

}  // namespace

Encoder make_encoder(const Keys& keys, const Labels& labels) {
    // With up to this many colors, 2000 attempts at 64 or 128 slots usually succeed.
    constexpr std::size_t kFew = 24, kSome = 36;
    Random random;
    Encoder encoder = multiplicative(keys, labels, random);
    if (keys.size() <= kFew && one_table(64, keys, labels, random, encoder)) {
        return encoder;
    }
    if (keys.size() <= kSome && one_table(128, keys, labels, random, encoder)) {
        return encoder;
    }
    two_tables(keys, labels, random, encoder);
    return encoder;
}

}  // namespace fcnkit
