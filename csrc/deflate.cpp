#include "deflate.hpp"

#include <algorithm>
#include <array>
#include <cstring>

namespace fcnkit {
namespace {

constexpr std::size_t kShortest = 3;  // of a match
constexpr std::size_t kLongest = 258;
constexpr std::size_t kFarthest = 32768;
constexpr std::uint32_t kBase = 65521;  // of Adler-32

// Counts the bytes that are equal from the beginning.
std::size_t same(const std::uint8_t* a, const std::uint8_t* b, std::size_t count) {
    std::size_t i = 0;
    for (; i + 8 <= count; i += 8) {
        std::uint64_t left;
        std::uint64_t right;
        std::memcpy(&left, a + i, 8);
        std::memcpy(&right, b + i, 8);
        if (left != right) {
            break;
        }
    }
    while (i < count && a[i] == b[i]) {
        ++i;
    }
    return i;
}

std::uint32_t reversed(std::uint32_t code, unsigned bits) {
    std::uint32_t turned = 0;
    for (unsigned i = 0; i < bits; ++i) {
        turned |= (code >> i & 1U) << (bits - 1 - i);
    }
    return turned;
}

}  // namespace

// Bits as they are written, the first one lowest.
struct LabelDeflate::Code {
    std::uint32_t bits;
    unsigned count;
};

// The codes of literals and lengths, which suit label maps: short ones for the first labels, for
// runs of any length, and long ones for the labels that few data sets have.
struct LabelDeflate::Codes {
    static constexpr std::size_t kSymbols = 286;  // 0..255 literals, 256 the end, then lengths

    std::array<std::uint8_t, kSymbols> counts;  // bits of each symbol
    std::array<Code, kSymbols> symbol;
    std::array<Code, kLongest + 1> length;  // with its extra bits

    Codes() : counts{}, symbol{}, length{} {
        for (std::size_t i = 0; i < kSymbols; ++i) {
            counts[i] = i < 8 ? 5 : i < 16 ? 6 : i < 32 ? 8 : i <= 256 ? 12 : 6;
        }
        counts[255] = 7;                            // void
        counts[257] = counts[258] = counts[285] = 5;  // the lengths 3, 4 and 258
        number();
        // RFC 1951, 3.2.5: eight lengths without extra bits, then four symbols for each number.
        std::size_t next = 257, first = kShortest;
        for (unsigned extra = 0; extra <= 5; ++extra) {
            for (unsigned i = 0; i < (extra == 0 ? 8U : 4U); ++i, ++next) {
                for (std::uint32_t more = 0; more < 1U << extra; ++more, ++first) {
                    length[first] = {symbol[next].bits | more << symbol[next].count,
                                     symbol[next].count + extra};
                }
            }
        }
        length[kLongest] = symbol[285];
    }

    // RFC 1951, 3.2.2: codes of one length count up in the order of their symbols.
    void number() {
        std::uint32_t code = 0;
        for (unsigned count = 1; count <= 12; ++count, code <<= 1) {
            for (std::size_t i = 0; i < kSymbols; ++i) {
                if (counts[i] == count) {
                    symbol[i] = {reversed(code++, count), count};
                }
            }
        }
    }
};

const LabelDeflate::Codes& LabelDeflate::codes() {
    static const Codes found;
    return found;
}

// Two distances occur: 1, and that of the row above. Each has a code of one bit.
LabelDeflate::LabelDeflate(std::size_t width)
    : width_(width), above_(width), sees_above_(width + 1 <= kFarthest) {
    if (sees_above_) {
        // RFC 1951, 3.2.5: two symbols for each number of extra bits from 1 on.
        const std::size_t offset = width;  // the distance is one more
        unsigned extra = 0;
        while (offset >= std::size_t{4} << extra) {
            ++extra;
        }
        up_symbol_ = extra == 0 ? offset : 2 * extra + (offset >> extra);
        const std::size_t rest = offset & ((std::size_t{1} << extra) - 1);
        up_bits_ = static_cast<std::uint32_t>(1 | rest << 1);
        up_count_ = 1 + extra;
    }
}

// The head of the stream: of zlib, and of a block that says its codes (RFC 1951, 3.2.7).
void LabelDeflate::begin(std::string& out) {
    constexpr std::array<std::uint8_t, 19> order = {16, 17, 18, 0, 8,  7, 9,  6, 10, 5,
                                                    11, 4,  12, 3, 13, 2, 14, 1, 15};
    constexpr std::array<std::uint8_t, 8> used = {0, 1, 5, 6, 7, 8, 12, 16};  // three bits each
    constexpr std::uint8_t repeat = 16;  // the last number again, three to six times
    out += "\x78\x01";  // a window of 32 KiB, compressed fast
    put({0b100, 3}, out);  // not the last block, with codes
    put({Codes::kSymbols - 257, 5}, out);
    put({static_cast<std::uint32_t>(up_symbol_), 5}, out);
    put({18 - 4, 4}, out);
    for (std::size_t i = 0; i < 18; ++i) {
        const bool has = std::find(used.begin(), used.end(), order[i]) != used.end();
        put({has ? 3U : 0U, 3}, out);
    }
    const auto say = [&](std::uint8_t number) {
        const auto at = std::find(used.begin(), used.end(), number) - used.begin();
        put({reversed(static_cast<std::uint32_t>(at), 3), 3}, out);
    };
    std::vector<std::uint8_t> counts(Codes::kSymbols + up_symbol_ + 1);
    std::copy(codes().counts.begin(), codes().counts.end(), counts.begin());
    counts[Codes::kSymbols] = counts.back() = 1;
    for (std::size_t i = 0; i < counts.size();) {
        std::size_t again = 1;
        while (i + again < counts.size() && counts[i + again] == counts[i] && again < 7) {
            ++again;
        }
        say(counts[i]);
        if (again >= 4) {
            say(repeat);
            put({static_cast<std::uint32_t>(again - 4), 2}, out);
        }
        i += again >= 4 ? again : 1;
    }
    begun_ = true;
}

void LabelDeflate::put(Code code, std::string& out) {
    bits_ |= std::uint64_t{code.bits} << held_;
    held_ += code.count;
    if (held_ >= 32) {
        const char bytes[4] = {
            static_cast<char>(bits_ & 0xFF), static_cast<char>(bits_ >> 8 & 0xFF),
            static_cast<char>(bits_ >> 16 & 0xFF), static_cast<char>(bits_ >> 24 & 0xFF)};
        out.append(bytes, 4);
        bits_ >>= 32;
        held_ -= 32;
    }
}

void LabelDeflate::literal(std::uint8_t value, std::string& out) {
    put(codes().symbol[value], out);
}

void LabelDeflate::match(std::size_t length, Code distance, std::string& out) {
    while (length > 0) {
        std::size_t part = std::min(length, kLongest);
        if (length > part && length - part < kShortest) {
            part = length - kShortest;
        }
        put(codes().length[part], out);
        put(distance, out);
        length -= part;
    }
}

// The checksum of the filter's byte, which is 0, and of a row.
void LabelDeflate::sum(const std::uint8_t* row) {
    constexpr std::uint32_t kBlock = 32;
    high_ += low_;
    std::size_t at = 0;
    while (at < width_) {
        // After 4096 bytes both sums still fit into 32 bits.
        const std::size_t end = std::min(width_, at + 4096);
        for (; at + kBlock <= end; at += kBlock) {
            std::int32_t sum = 0;
            std::int32_t weighted = 0;
            for (std::size_t i = 0; i < kBlock; ++i) {
                const std::int16_t value = row[at + i];
                sum += value;
                weighted += static_cast<std::int16_t>(kBlock - i) * value;
            }
            high_ += kBlock * low_ + static_cast<std::uint32_t>(weighted);
            low_ += static_cast<std::uint32_t>(sum);
        }
        for (; at < end; ++at) {
            low_ += row[at];
            high_ += low_;
        }
        low_ %= kBase;
        high_ %= kBase;
    }
}

void LabelDeflate::add_row(const std::uint8_t* row, const std::uint8_t* above, std::string& out) {
    const bool near = above != nullptr && sees_above_;
    const Code up{up_bits_, up_count_};
    const Code left{0, 1};
    std::size_t at = near ? same(row, above, width_) : 0;
    if (at + 1 >= kShortest) {
        match(at + 1, up, out);  // from the filter's byte on
    } else {
        at = 0;
        literal(0, out);
    }
    while (at < width_) {
        const std::size_t rest = width_ - at;
        const std::size_t copied = near ? same(row + at, above + at, rest) : 0;
        std::size_t run = 0;
        if (copied < rest && row[at] == (at > 0 ? row[at - 1] : 0)) {
            run = at > 0 ? same(row + at, row + at - 1, rest) : 1 + same(row + 1, row, rest - 1);
        }
        const std::size_t length = std::max(copied, run);
        if (length < kShortest) {
            literal(row[at], out);
            ++at;
            continue;
        }
        match(length, run >= copied ? left : up, out);
        at += length;
    }
}

void LabelDeflate::add(const std::uint8_t* rows, std::size_t count, std::string& out) {
    if (count == 0) {
        return;
    }
    const std::uint8_t* above = begun_ ? above_.data() : nullptr;
    if (!begun_) {
        begin(out);
    }
    for (std::size_t i = 0; i < count; ++i) {
        const std::uint8_t* row = rows + i * width_;
        add_row(row, above, out);
        sum(row);
        above = row;
    }
    std::copy_n(above, width_, above_.data());
}

void LabelDeflate::end(std::string& out) {
    if (!begun_) {
        begin(out);
    }
    put(codes().symbol[256], out);  // the end of the block
    put({0b011, 3}, out);  // the last one has the fixed codes of RFC 1951 and is empty
    put({0, 7}, out);
    for (held_ = (held_ + 7) / 8 * 8; held_ > 0; held_ -= 8, bits_ >>= 8) {
        out += static_cast<char>(bits_ & 0xFF);
    }
    const std::uint32_t adler = high_ << 16 | low_;
    for (unsigned shift = 32; shift > 0; shift -= 8) {
        out += static_cast<char>(adler >> (shift - 8) & 0xFF);
    }
}

}  // namespace fcnkit
