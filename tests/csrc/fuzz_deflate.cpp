// Fuzz target of the compressed rows: a slow reader of zlib streams, written from RFC 1951, must
// find the rows again.
#include "deflate.hpp"
#include "fuzz.hpp"

namespace fuzz {
namespace {

// Reads bit after bit; past the end there are zeros, which the checksum finds.
class Bits {
   public:
    explicit Bits(const std::string& from) : from_(from) {}
    std::uint32_t operator()(unsigned count) {
        std::uint32_t value = 0;
        for (unsigned i = 0; i < count; ++i, ++at_) {
            if (at_ / 8 < from_.size()) {
                value |= (static_cast<std::uint8_t>(from_[at_ / 8]) >> at_ % 8 & 1U) << i;
            }
        }
        return value;
    }
    std::size_t bytes() const { return (at_ + 7) / 8; }

   private:
    const std::string& from_;
    std::size_t at_ = 0;
};

// A Huffman code: symbols by (bits, code).
using Code = std::map<std::pair<unsigned, std::uint32_t>, unsigned>;

Code code_of(const std::vector<unsigned>& counts) {
    Code found;
    std::uint32_t code = 0;
    for (unsigned count = 1; count < 16; ++count, code *= 2) {
        for (unsigned symbol = 0; symbol < counts.size(); ++symbol) {
            if (counts[symbol] == count) {
                found[{count, code++}] = symbol;
            }
        }
    }
    return found;
}

unsigned next(Bits& bits, const Code& code) {
    std::uint32_t value = 0;
    for (unsigned count = 1; count < 16; ++count) {
        value = value * 2 + bits(1);
        const auto found = code.find({count, value});
        if (found != code.end()) {
            return found->second;
        }
    }
    return 256;  // no code: as if the block ended
}

void codes_of(Bits& bits, Code& symbols, Code& distances) {
    const unsigned literals = 257 + bits(5), far = 1 + bits(5), small = 4 + bits(4);
    const unsigned order[19] = {16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15};
    std::vector<unsigned> first(19);
    for (unsigned i = 0; i < small; ++i) {
        first[order[i]] = bits(3);
    }
    const Code numbers = code_of(first);
    std::vector<unsigned> counts;
    while (counts.size() < literals + far) {
        const unsigned number = next(bits, numbers);
        if (number < 16) {
            counts.push_back(number);
        } else {  // 17 and 18 are for zeros
            const unsigned value = number == 16 && !counts.empty() ? counts.back() : 0;
            const unsigned least = number == 18 ? 11 : 3, extra = number == 16   ? 2
                                                                  : number == 17 ? 3
                                                                                 : 7;
            counts.insert(counts.end(), least + bits(extra), value);
        }
    }
    symbols = code_of({counts.begin(), counts.begin() + literals});
    distances = code_of({counts.begin() + literals, counts.end()});
}

// Returns what a stream holds; empty where it is wrong.
Bytes inflate(const std::string& stream) {
    Bits bits(stream);
    Bytes out;
    if (bits(16) % 256 != 0x78) {
        return {};
    }
    for (bool last = false; !last;) {
        last = bits(1) == 1;
        Code symbols, distances;
        if (bits(2) == 2) {
            codes_of(bits, symbols, distances);
        } else {  // the last block is empty, with the fixed code of its end
            symbols[{7, 0}] = 256;
        }
        for (unsigned symbol = next(bits, symbols); symbol != 256; symbol = next(bits, symbols)) {
            if (symbol < 256) {
                out.push_back(static_cast<std::uint8_t>(symbol));
                continue;
            }
            unsigned length = symbol - 254;
            if (symbol == 285) {
                length = 258;
            } else if (symbol > 264) {
                const unsigned extra = (symbol - 261) / 4;
                length = 3 + ((4 + (symbol - 261) % 4) << extra) + bits(extra);
            }
            std::size_t distance = next(bits, distances);
            if (distance > 3) {
                const auto extra = static_cast<unsigned>(distance / 2 - 1);
                distance = ((2 + distance % 2) << extra) + bits(extra);
            }
            if (++distance > out.size()) {
                return {};
            }
            for (; length > 0; --length) {
                out.push_back(out[out.size() - distance]);
            }
        }
    }
    std::uint32_t low = 1, high = 0;
    for (const std::uint8_t byte : out) {
        low = (low + byte) % 65521;
        high = (high + low) % 65521;
    }
    std::string sum;
    for (const std::uint32_t half : {high, low}) {
        sum += static_cast<char>(half >> 8);
        sum += static_cast<char>(half & 0xFF);
    }
    return stream.substr(bits.bytes()) == sum ? out : Bytes{};
}

void fuzz_deflate(Call& call) {
    const std::size_t width = 1 + (call.chance(20) ? 32760 + call.below(20) : call.size());
    const std::size_t height = call.below(8);
    const unsigned classes = some_classes(call);
    Bytes labels(width * height);
    const std::size_t every = 1 + call.below(40);  // pixels between changes, about
    for (std::size_t i = 0; i < labels.size(); ++i) {
        const bool above = i >= width && !call.chance(every);
        const bool left = i > 0 && !call.chance(every);
        labels[i] = above  ? labels[i - width]
                    : left ? labels[i - 1]
                           : static_cast<std::uint8_t>(call.below(classes));
    }
    Bytes expected;
    for (std::size_t y = 0; y < height; ++y) {
        expected.push_back(0);
        expected.insert(expected.end(), labels.begin() + static_cast<std::ptrdiff_t>(y * width),
                        labels.begin() + static_cast<std::ptrdiff_t>((y + 1) * width));
    }
    const std::size_t cut = call.below(height + 1);
    LabelDeflate deflate(width);
    std::string stream;
    deflate.add(labels.data(), cut, stream);
    deflate.add(labels.data() + cut * width, height - cut, stream);
    deflate.end(stream);
    call.expect(inflate(stream) == expected, "every");
}

const Register deflate_target("deflate", fuzz_deflate);

}  // namespace
}  // namespace fuzz
