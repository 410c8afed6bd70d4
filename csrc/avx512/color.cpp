// AVX-512 decode, encode and overlay: 64 pixels at a time, colours in three planes.
#include "target.hpp"

#if FCNKIT_X86
#include <immintrin.h>

#include "avx512/avx512.hpp"
#include "avx512/planes.hpp"
#include "scalar/scalar.hpp"

FCNKIT_TARGET_BEGIN(FCNKIT_AVX512)
namespace fcnkit::avx512 {
namespace {

// Which of 64 labels have no colour.
__mmask64 colorless(__m512i labels, const Colors& colors) {
    if (colors.classes > kVoid) {
        return 0;
    }
    const __m512i classes = _mm512_set1_epi8(static_cast<char>(colors.classes));
    const __m512i all_ones = _mm512_set1_epi8(-1);
    return _mm512_cmpge_epu8_mask(labels, classes) & _mm512_cmpneq_epu8_mask(labels, all_ones);
}

// One channel of up to 63 colours and void: 255 looks at the last entry, as only the lowest six
// bits count.
class SmallTable {
   public:
    explicit SmallTable(const std::uint8_t (&channel)[256])
        : entries_(_mm512_mask_set1_epi8(_mm512_loadu_si512(channel), std::uint64_t{1} << 63,
                                         static_cast<char>(channel[kVoid]))) {}
    __m512i operator()(__m512i labels) const { return _mm512_permutexvar_epi8(labels, entries_); }

   private:
    __m512i entries_;
};

// One channel of any palette.
class LargeTable {
   public:
    explicit LargeTable(const std::uint8_t (&channel)[256])
        : entries_{_mm512_loadu_si512(channel), _mm512_loadu_si512(channel + 64),
                   _mm512_loadu_si512(channel + 128), _mm512_loadu_si512(channel + 192)} {}
    __m512i operator()(__m512i labels) const {
        const __m512i low = _mm512_permutex2var_epi8(entries_[0], labels, entries_[1]);
        const __m512i high = _mm512_permutex2var_epi8(entries_[2], labels, entries_[3]);
        return _mm512_mask_mov_epi8(low, _mm512_movepi8_mask(labels), high);
    }

   private:
    __m512i entries_[4];
};

template <class Table>
bool decode_with(const std::uint8_t* labels, std::size_t n, const Colors& colors,
                 std::uint8_t* rgb) {
    const Table red(colors.channel[0]), green(colors.channel[1]), blue(colors.channel[2]);
    const Weave weave;
    __mmask64 illegal = 0;
    std::size_t i = 0;
    for (; i + 64 <= n; i += 64) {
        const __m512i at = _mm512_loadu_si512(labels + i);
        illegal |= colorless(at, colors);
        const Planes planes{red(at), green(at), blue(at)};
        for (int part = 0; part < 3; ++part) {
            _mm512_storeu_si512(rgb + 3 * i + 64 * part, weave(planes, part));
        }
    }
    return scalar::decode(labels + i, n - i, colors, rgb + 3 * i) && illegal == 0;
}

// (image * (256 - weight) + color * weight + 128) >> 8 for 64 bytes; every sum fits 16 bits.
__m512i blend(__m512i image, __m512i color, __m512i keep, __m512i weight) {
    const __m512i zero = _mm512_setzero_si512();
    const __m512i half = _mm512_set1_epi16(128);
    const auto mix = [&](__m512i a, __m512i b) {
        const __m512i sum = _mm512_add_epi16(_mm512_mullo_epi16(a, keep), half);
        return _mm512_srli_epi16(_mm512_add_epi16(sum, _mm512_mullo_epi16(b, weight)), 8);
    };
    const __m512i low = mix(_mm512_unpacklo_epi8(image, zero), _mm512_unpacklo_epi8(color, zero));
    const __m512i high = mix(_mm512_unpackhi_epi8(image, zero), _mm512_unpackhi_epi8(color, zero));
    return _mm512_packus_epi16(low, high);
}

template <class Table>
bool overlay_with(const std::uint8_t* image, const std::uint8_t* labels, std::size_t n,
                  const Colors& colors, unsigned weight, std::uint8_t* out) {
    const Table red(colors.channel[0]), green(colors.channel[1]), blue(colors.channel[2]);
    const Weave weave;
    const __m512i color_weight = _mm512_set1_epi16(static_cast<short>(weight));
    const __m512i keep = _mm512_set1_epi16(static_cast<short>(256 - weight));
    const bool has_void = colors.classes <= kVoid;
    __mmask64 illegal = 0;
    std::size_t i = 0;
    for (; i + 64 <= n; i += 64) {
        const __m512i at = _mm512_loadu_si512(labels + i);
        illegal |= colorless(at, colors);
        const Planes planes{red(at), green(at), blue(at)};
        for (int part = 0; part < 3; ++part) {
            const __m512i before = _mm512_loadu_si512(image + 3 * i + 64 * part);
            const __m512i after = blend(before, weave(planes, part), keep, color_weight);
            const __mmask64 same = has_void ? weave.ones(at, part) : 0;
            _mm512_storeu_si512(out + 3 * i + 64 * part,
                                _mm512_mask_mov_epi8(after, same, before));
        }
    }
    return scalar::overlay(image + 3 * i, labels + i, n - i, colors, weight, out + 3 * i) &&
           illegal == 0;
}

// A column of 128 or 256 slots, looked up by hash.
template <int kSlots>
__m512i look_up(const std::uint8_t* column, __m512i hash) {
    const __m512i low = _mm512_permutex2var_epi8(_mm512_loadu_si512(column), hash,
                                                 _mm512_loadu_si512(column + 64));
    if (kSlots == 128) {
        return low;
    }
    const __m512i high = _mm512_permutex2var_epi8(_mm512_loadu_si512(column + 128), hash,
                                                  _mm512_loadu_si512(column + 192));
    return _mm512_mask_mov_epi8(low, _mm512_movepi8_mask(hash), high);
}

// The candidates that one table of slots has for 64 pixels, and which of them are right.
struct Candidates {
    __m512i labels;
    __mmask64 right;
};

template <int kSlots>
Candidates find(const LinearTable& table, const Planes& planes) {
    const auto hash_of = [&](__m512i plane, int channel) {
        __m512i matrix = _mm512_set1_epi64(static_cast<long long>(table.matrix[channel]));
#if defined(__clang__)
        // Keep it in a register: LLVM 14 takes the displacement of a broadcast memory operand of
        // this instruction for one of bytes, and the processor reads eight times as far.
        __asm__("" : "+v"(matrix));
#endif
        return _mm512_gf2p8affine_epi64_epi8(plane, matrix, 0);
    };
    const __m512i hash = _mm512_ternarylogic_epi64(
        hash_of(planes.red, 0), hash_of(planes.green, 1), hash_of(planes.blue, 2), 0x96);  // xor
    const __mmask64 red =
        _mm512_cmpeq_epi8_mask(look_up<kSlots>(table.channel[0], hash), planes.red);
    const __mmask64 green =
        _mm512_cmpeq_epi8_mask(look_up<kSlots>(table.channel[1], hash), planes.green);
    const __mmask64 blue =
        _mm512_cmpeq_epi8_mask(look_up<kSlots>(table.channel[2], hash), planes.blue);
    return {look_up<kSlots>(table.label, hash), red & green & blue};
}

template <int kTables>
std::size_t encode_with(const std::uint8_t* rgb, std::size_t n, const Encoder& encoder,
                        std::uint8_t unknown, std::uint8_t* labels) {
    constexpr int kSlots = kTables == 1 ? 128 : 256;
    const Unweave unweave;
    const __m512i nobody = _mm512_set1_epi8(static_cast<char>(unknown));
    std::size_t known = 0, i = 0;
    for (; i + 64 <= n; i += 64) {
        const Planes planes = unweave(rgb + 3 * i);
        const Candidates one = find<kSlots>(encoder.linear[0], planes);
        __m512i found = _mm512_mask_mov_epi8(nobody, one.right, one.labels);
        __mmask64 right = one.right;
        if (kTables == 2) {
            const Candidates two = find<kSlots>(encoder.linear[1], planes);
            found = _mm512_mask_mov_epi8(found, two.right, two.labels);
            right |= two.right;
        }
        _mm512_storeu_si512(labels + i, found);
        known += static_cast<std::size_t>(_mm_popcnt_u64(right));
    }
    return i - known + scalar::encode(rgb + 3 * i, n - i, encoder, unknown, labels + i);
}

}  // namespace

bool decode(const std::uint8_t* labels, std::size_t n, const Colors& colors, std::uint8_t* rgb) {
    return colors.classes < 64 ? decode_with<SmallTable>(labels, n, colors, rgb)
                               : decode_with<LargeTable>(labels, n, colors, rgb);
}

bool overlay(const std::uint8_t* image, const std::uint8_t* labels, std::size_t n,
             const Colors& colors, unsigned weight, std::uint8_t* out) {
    return colors.classes < 64
               ? overlay_with<SmallTable>(image, labels, n, colors, weight, out)
               : overlay_with<LargeTable>(image, labels, n, colors, weight, out);
}

std::size_t encode(const std::uint8_t* rgb, std::size_t n, const Encoder& encoder,
                   std::uint8_t unknown, std::uint8_t* labels) {
    switch (encoder.linear_tables) {
        case 1:
            return encode_with<1>(rgb, n, encoder, unknown, labels);
        case 2:
            return encode_with<2>(rgb, n, encoder, unknown, labels);
        default:
            return scalar::encode(rgb, n, encoder, unknown, labels);
    }
}

}  // namespace fcnkit::avx512
FCNKIT_TARGET_END
#endif
