// What decode and overlay need of AVX2: 32 pixels at a time, palettes of up to 32 colors. Larger
// palettes take more lookups than the portable loop takes time.
#pragma once

namespace fcnkit::avx2 {
namespace {

struct ColorVectors {
    static constexpr std::size_t kPixels = 32;
    using Bytes = __m256i;
    using Flags = __m256i;  // bytes of ones
    struct Pixels {
        Bytes part[3];
    };
    using PixelFlags = Pixels;

    static Bytes load(const std::uint8_t* from) {
        return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
    }

    static Pixels load_pixels(const std::uint8_t* from) {
        return {{load(from), load(from + 32), load(from + 64)}};
    }

    static void store(std::uint8_t* to, const Pixels& pixels) {
        FCNKIT_UNROLL
        for (int k = 0; k < 3; ++k) {
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + 32 * k), pixels.part[k]);
        }
    }

    static Flags no_flags() { return _mm256_setzero_si256(); }
    static Flags either(Flags a, Flags b) { return _mm256_or_si256(a, b); }
    static bool none(Flags flags) { return _mm256_testz_si256(flags, flags) != 0; }
    static Flags is_void(Bytes labels) { return _mm256_cmpeq_epi8(labels, _mm256_set1_epi8(-1)); }

    static Bytes select(Flags flags, Bytes yes, Bytes no) {
        return _mm256_blendv_epi8(no, yes, flags);
    }

    // Which labels have no color.
    static Flags colorless(Bytes labels, const Colors& colors) {
        const __m256i classes = _mm256_set1_epi8(static_cast<char>(colors.classes));
        const __m256i beyond = _mm256_cmpeq_epi8(_mm256_max_epu8(labels, classes), labels);
        return _mm256_andnot_si256(is_void(labels), beyond);
    }

    // One channel of up to 32 colors and void. A shuffle looks up four bits and answers 0 where the
    // top bit is set, so each half is asked with indices that have it set for the other half's
    // labels.
    static constexpr unsigned kSmall = 32;
    class Small {
       public:
        explicit Small(const std::uint8_t (&channel)[256])
            : low_(twice(channel)),
              high_(twice(channel + 16)),
              void_(_mm256_set1_epi8(static_cast<char>(channel[kVoid]))) {}
        Bytes operator()(Bytes labels) const {
            const __m256i first = _mm256_adds_epu8(labels, _mm256_set1_epi8(0x70));
            const __m256i second = _mm256_sub_epi8(labels, _mm256_set1_epi8(16));
            const __m256i known = _mm256_or_si256(_mm256_shuffle_epi8(low_, first),
                                                  _mm256_shuffle_epi8(high_, second));
            return select(is_void(labels), void_, known);
        }

       private:
        __m256i low_, high_, void_;
    };
    using Large = void;

    // Three channels of 32 bytes to 96 interleaved ones. Each half of a register is woven by itself
    // into 48 bytes, byte k from channel k % 3 of pixel k / 3; then the halves are put in order.
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

        Pixels operator()(const Pixels& channels) const {
            __m256i woven[3];
            FCNKIT_UNROLL
            for (int k = 0; k < 3; ++k) {
                woven[k] = _mm256_or_si256(
                    _mm256_or_si256(_mm256_shuffle_epi8(channels.part[0], from_[k][0]),
                                    _mm256_shuffle_epi8(channels.part[1], from_[k][1])),
                    _mm256_shuffle_epi8(channels.part[2], from_[k][2]));
            }
            return {{_mm256_permute2x128_si256(woven[0], woven[1], 0x20),
                     _mm256_permute2x128_si256(woven[2], woven[0], 0x30),
                     _mm256_permute2x128_si256(woven[1], woven[2], 0x31)}};
        }

        // Which bytes of the pixels belong to void. A palette this small always has it.
        PixelFlags void_bytes(Bytes labels, bool) const {
            const Flags nothing = is_void(labels);
            return (*this)({{nothing, nothing, nothing}});
        }

       private:
        __m256i from_[3][3];
    };

    // (image * keep + color * weight + 128) >> 8 for 32 bytes; every sum fits 16 bits.
    class Blend {
       public:
        explicit Blend(unsigned weight)
            : keep_(_mm256_set1_epi16(static_cast<short>(256 - weight))),
              weight_(_mm256_set1_epi16(static_cast<short>(weight))) {}

        Bytes operator()(Bytes image, Bytes color) const {
            const __m256i zero = _mm256_setzero_si256();
            return _mm256_packus_epi16(
                mix(_mm256_unpacklo_epi8(image, zero), _mm256_unpacklo_epi8(color, zero)),
                mix(_mm256_unpackhi_epi8(image, zero), _mm256_unpackhi_epi8(color, zero)));
        }

       private:
        __m256i mix(__m256i image, __m256i color) const {
            const __m256i sum =
                _mm256_add_epi16(_mm256_mullo_epi16(image, keep_), _mm256_set1_epi16(128));
            return _mm256_srli_epi16(_mm256_add_epi16(sum, _mm256_mullo_epi16(color, weight_)), 8);
        }

        __m256i keep_, weight_;
    };
};

}  // namespace
}  // namespace fcnkit::avx2
