// AVX2 decode and overlay for palettes of up to 32 colours, 32 pixels at a time. Larger palettes
// take more lookups than the portable loop takes time.
#include "target.hpp"

#if FCNKIT_X86
#include <immintrin.h>

#include "avx2/avx2.hpp"
#include "scalar/scalar.hpp"

FCNKIT_TARGET_BEGIN(FCNKIT_AVX2)
namespace fcnkit::avx2 {
namespace {

constexpr unsigned kMost = 32;  // colours

__m256i load(const std::uint8_t* from) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
}

void store(std::uint8_t* to, __m256i bytes) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), bytes);
}

__m256i twice(const std::uint8_t* sixteen) {
    return _mm256_broadcastsi128_si256(
        _mm_loadu_si128(reinterpret_cast<const __m128i*>(sixteen)));
}

__m256i is_void(__m256i labels) { return _mm256_cmpeq_epi8(labels, _mm256_set1_epi8(-1)); }

// Bytes of ones where one of 32 labels has no colour.
__m256i colorless(__m256i labels, const Colors& colors) {
    const __m256i classes = _mm256_set1_epi8(static_cast<char>(colors.classes));
    const __m256i beyond = _mm256_cmpeq_epi8(_mm256_max_epu8(labels, classes), labels);
    return _mm256_andnot_si256(is_void(labels), beyond);
}

// One channel of up to 32 colours and void. A shuffle looks up four bits and answers 0 where the
// top bit is set, so each half is asked with indices that have it set for the other half's labels.
class Table {
   public:
    explicit Table(const std::uint8_t (&channel)[256])
        : low_(twice(channel)),
          high_(twice(channel + 16)),
          void_(_mm256_set1_epi8(static_cast<char>(channel[kVoid]))) {}
    __m256i operator()(__m256i labels) const {
        const __m256i first = _mm256_adds_epu8(labels, _mm256_set1_epi8(0x70));
        const __m256i second = _mm256_sub_epi8(labels, _mm256_set1_epi8(16));
        const __m256i known =
            _mm256_or_si256(_mm256_shuffle_epi8(low_, first), _mm256_shuffle_epi8(high_, second));
        return _mm256_blendv_epi8(known, void_, is_void(labels));
    }

   private:
    __m256i low_, high_, void_;
};

struct Bytes96 {
    __m256i parts[3];
};

// Three planes of 32 bytes to 96 interleaved ones. Each half of a register is woven by itself into
// 48 bytes, byte k from channel k % 3 of pixel k / 3; then the halves are put in order.
class Weave {
   public:
    Weave() {
        for (int part = 0; part < 3; ++part) {
            for (int channel = 0; channel < 3; ++channel) {
                alignas(16) std::uint8_t from[16];
                for (int k = 0; k < 16; ++k) {
                    const int byte = 16 * part + k;
                    from[k] = static_cast<std::uint8_t>(byte % 3 == channel ? byte / 3 : 0x80);
                }
                from_[part][channel] = twice(from);
            }
        }
    }

    Bytes96 operator()(__m256i red, __m256i green, __m256i blue) const {
        __m256i woven[3];
        FCNKIT_UNROLL
        for (int part = 0; part < 3; ++part) {
            woven[part] = _mm256_or_si256(
                _mm256_or_si256(_mm256_shuffle_epi8(red, from_[part][0]),
                                _mm256_shuffle_epi8(green, from_[part][1])),
                _mm256_shuffle_epi8(blue, from_[part][2]));
        }
        return {{_mm256_permute2x128_si256(woven[0], woven[1], 0x20),
                 _mm256_permute2x128_si256(woven[2], woven[0], 0x30),
                 _mm256_permute2x128_si256(woven[1], woven[2], 0x31)}};
    }

   private:
    __m256i from_[3][3];
};

// (image * keep + color * weight + 128) >> 8 for 32 bytes; every sum fits 16 bits.
__m256i blend(__m256i image, __m256i color, __m256i keep, __m256i weight) {
    const __m256i zero = _mm256_setzero_si256();
    const auto mix = [&](__m256i a, __m256i b) {
        const __m256i sum = _mm256_add_epi16(_mm256_mullo_epi16(a, keep), _mm256_set1_epi16(128));
        return _mm256_srli_epi16(_mm256_add_epi16(sum, _mm256_mullo_epi16(b, weight)), 8);
    };
    const __m256i low = mix(_mm256_unpacklo_epi8(image, zero), _mm256_unpacklo_epi8(color, zero));
    const __m256i high = mix(_mm256_unpackhi_epi8(image, zero), _mm256_unpackhi_epi8(color, zero));
    return _mm256_packus_epi16(low, high);
}

}  // namespace

bool decode(const std::uint8_t* labels, std::size_t n, const Colors& colors, std::uint8_t* rgb) {
    if (colors.classes > kMost) {
        return scalar::decode(labels, n, colors, rgb);
    }
    const Table red(colors.channel[0]), green(colors.channel[1]), blue(colors.channel[2]);
    const Weave weave;
    __m256i illegal = _mm256_setzero_si256();
    std::size_t i = 0;
    for (; i + 32 <= n; i += 32) {
        const __m256i at = load(labels + i);
        illegal = _mm256_or_si256(illegal, colorless(at, colors));
        const Bytes96 woven = weave(red(at), green(at), blue(at));
        store(rgb + 3 * i, woven.parts[0]);
        store(rgb + 3 * i + 32, woven.parts[1]);
        store(rgb + 3 * i + 64, woven.parts[2]);
    }
    return scalar::decode(labels + i, n - i, colors, rgb + 3 * i) &&
           _mm256_testz_si256(illegal, illegal) != 0;
}

bool overlay(const std::uint8_t* image, const std::uint8_t* labels, std::size_t n,
             const Colors& colors, unsigned weight, std::uint8_t* out) {
    if (colors.classes > kMost) {
        return scalar::overlay(image, labels, n, colors, weight, out);
    }
    const Table red(colors.channel[0]), green(colors.channel[1]), blue(colors.channel[2]);
    const Weave weave;
    const __m256i color_weight = _mm256_set1_epi16(static_cast<short>(weight));
    const __m256i keep = _mm256_set1_epi16(static_cast<short>(256 - weight));
    __m256i illegal = _mm256_setzero_si256();
    std::size_t i = 0;
    for (; i + 32 <= n; i += 32) {
        const __m256i at = load(labels + i), nothing = is_void(at);
        illegal = _mm256_or_si256(illegal, colorless(at, colors));
        const Bytes96 woven = weave(red(at), green(at), blue(at));
        const Bytes96 same = weave(nothing, nothing, nothing);
        for (std::size_t part = 0; part < 3; ++part) {
            const __m256i before = load(image + 3 * i + 32 * part);
            const __m256i after = blend(before, woven.parts[part], keep, color_weight);
            store(out + 3 * i + 32 * part,
                  _mm256_blendv_epi8(after, before, same.parts[part]));
        }
    }
    return scalar::overlay(image + 3 * i, labels + i, n - i, colors, weight, out + 3 * i) &&
           _mm256_testz_si256(illegal, illegal) != 0;
}

}  // namespace fcnkit::avx2
FCNKIT_TARGET_END
#endif
