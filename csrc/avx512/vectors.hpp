// The registers of AVX-512, for the loops of generic/.
#pragma once

namespace fcnkit::avx512 {
namespace {

// For decode and overlay: 64 pixels at a time, palettes of any size.
struct ColorVectors {
    static constexpr std::size_t kPixels = 64;
    using Bytes = __m512i;
    using Flags = __mmask64;
    struct Pixels {
        Bytes part[3];
    };
    struct PixelFlags {
        Flags part[3];
    };

    static Bytes load(const std::uint8_t* from) { return _mm512_loadu_si512(from); }

    static Pixels load_pixels(const std::uint8_t* from) {
        return {{load(from), load(from + 64), load(from + 128)}};
    }

    static void store(std::uint8_t* to, const Pixels& pixels) {
        FCNKIT_UNROLL
        for (int k = 0; k < 3; ++k) {
            _mm512_storeu_si512(to + 64 * k, pixels.part[k]);
        }
    }

    static Flags no_flags() { return 0; }
    static Flags either(Flags a, Flags b) { return a | b; }
    static bool none(Flags flags) { return flags == 0; }

    static Flags is_void(Bytes labels) {
        return _mm512_cmpeq_epi8_mask(labels, _mm512_set1_epi8(-1));
    }

    static Bytes select(Flags flags, Bytes yes, Bytes no) {
        return _mm512_mask_mov_epi8(no, flags, yes);
    }

    // Which labels have no color.
    static Flags colorless(Bytes labels, const Colors& colors) {
        if (colors.classes > kVoid) {
            return 0;
        }
        const __m512i classes = _mm512_set1_epi8(static_cast<char>(colors.classes));
        return _mm512_cmpge_epu8_mask(labels, classes) & ~is_void(labels);
    }

    // One channel of up to 63 colors and void: 255 looks at the last entry, as only the lowest six
    // bits count.
    static constexpr unsigned kSmall = 63;
    class Small {
       public:
        explicit Small(const std::uint8_t (&channel)[256])
            : entries_(_mm512_mask_set1_epi8(load(channel), std::uint64_t{1} << 63,
                                             static_cast<char>(channel[kVoid]))) {}
        Bytes operator()(Bytes labels) const { return _mm512_permutexvar_epi8(labels, entries_); }

       private:
        __m512i entries_;
    };

    // One channel of any palette.
    class Large {
       public:
        explicit Large(const std::uint8_t (&channel)[256])
            : entries_{load(channel), load(channel + 64), load(channel + 128),
                       load(channel + 192)} {}
        Bytes operator()(Bytes labels) const {
            const __m512i low = _mm512_permutex2var_epi8(entries_[0], labels, entries_[1]);
            const __m512i high = _mm512_permutex2var_epi8(entries_[2], labels, entries_[3]);
            return _mm512_mask_mov_epi8(low, _mm512_movepi8_mask(labels), high);
        }

       private:
        __m512i entries_[4];
    };

    // Three channels of 64 bytes to 192 interleaved ones: byte k belongs to channel k % 3 of pixel
    // k / 3. A two-register permutation fetches red and green (bit 6 of an index chooses the
    // register), a masked one adds blue.
    class Weave {
       public:
        Weave() {
            for (int part = 0; part < 3; ++part) {
                alignas(64) std::uint8_t from[64];
                alignas(64) std::uint8_t pixel[64];
                blue_[part] = 0;
                for (int k = 0; k < 64; ++k) {
                    const int byte = 64 * part + k;
                    pixel[k] = static_cast<std::uint8_t>(byte / 3);
                    from[k] = static_cast<std::uint8_t>(byte / 3 + (byte % 3 == 1 ? 64 : 0));
                    blue_[part] |= static_cast<std::uint64_t>(byte % 3 == 2) << k;
                }
                from_[part] = _mm512_load_si512(from);
                pixel_[part] = _mm512_load_si512(pixel);
            }
        }

        Pixels operator()(const Pixels& channels) const {
            Pixels pixels;
            FCNKIT_UNROLL
            for (int k = 0; k < 3; ++k) {
                const __m512i two =
                    _mm512_permutex2var_epi8(channels.part[0], from_[k], channels.part[1]);
                pixels.part[k] =
                    _mm512_mask_permutexvar_epi8(two, blue_[k], pixel_[k], channels.part[2]);
            }
            return pixels;
        }

        // Which bytes of the pixels belong to void.
        PixelFlags void_bytes(Bytes labels, bool has_void) const {
            PixelFlags found;
            FCNKIT_UNROLL
            for (int k = 0; k < 3; ++k) {
                const __m512i bytes = _mm512_permutexvar_epi8(pixel_[k], labels);
                found.part[k] = has_void ? is_void(bytes) : 0;
            }
            return found;
        }

       private:
        __m512i from_[3], pixel_[3];
        __mmask64 blue_[3];
    };

    // (image * keep + color * weight + 128) >> 8 for 64 bytes; every sum fits 16 bits.
    class Blend {
       public:
        explicit Blend(unsigned weight)
            : keep_(_mm512_set1_epi16(static_cast<short>(256 - weight))),
              weight_(_mm512_set1_epi16(static_cast<short>(weight))) {}

        Bytes operator()(Bytes image, Bytes color) const {
            const __m512i zero = _mm512_setzero_si512();
            return _mm512_packus_epi16(
                mix(_mm512_unpacklo_epi8(image, zero), _mm512_unpacklo_epi8(color, zero)),
                mix(_mm512_unpackhi_epi8(image, zero), _mm512_unpackhi_epi8(color, zero)));
        }

       private:
        __m512i mix(__m512i image, __m512i color) const {
            const __m512i sum =
                _mm512_add_epi16(_mm512_mullo_epi16(image, keep_), _mm512_set1_epi16(128));
            return _mm512_srli_epi16(_mm512_add_epi16(sum, _mm512_mullo_epi16(color, weight_)), 8);
        }

        __m512i keep_, weight_;
    };
};

// For gather: 16 pixels at a time, from the first 48 of 64 loaded bytes.
class GatherVectors {
   public:
    static constexpr std::size_t kPixels = 16, kReads = 64;
    using Pixels = __m512i;

    explicit GatherVectors(const Normalize& normalize) {
        for (int c = 0; c < 3; ++c) {
            from_[c] = lanes_of(c);
            scale_[c] = _mm512_set1_ps(normalize.scale[c]);
            bias_[c] = _mm512_set1_ps(normalize.bias[c]);
        }
    }

    static Pixels load(const std::uint8_t* rgb) { return _mm512_loadu_si512(rgb); }

    void store(float* to, Pixels pixels, int channel) const {
        _mm512_storeu_ps(to, normalized(pixels, channel));
    }

    void store(std::uint16_t* to, Pixels pixels, int channel) const {
        const __m512 values = normalized(pixels, channel);
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(to),
                            _mm512_cvtps_ph(values, _MM_FROUND_TO_NEAREST_INT));
    }

   private:
    // Index of the byte of a channel for each of 16 pixels, one per 32-bit lane.
    static __m512i lanes_of(int channel) {
        alignas(64) std::uint32_t from[16];
        for (int p = 0; p < 16; ++p) {
            from[p] = static_cast<std::uint32_t>(3 * p + channel);
        }
        return _mm512_load_si512(from);
    }

    __m512 normalized(Pixels pixels, int c) const {
        constexpr __mmask64 kLowestBytes = 0x1111111111111111;
        const __m512i lanes = _mm512_maskz_permutexvar_epi8(kLowestBytes, from_[c], pixels);
        return _mm512_fmadd_ps(_mm512_cvtepi32_ps(lanes), scale_[c], bias_[c]);
    }

    __m512i from_[3];
    __m512 scale_[3], bias_[3];
};

// For argmax and the sums of logits.
struct LogitVectors {
    static constexpr std::size_t kLanes = 16;
    static constexpr std::size_t kVectors = 8;
    using Floats = __m512;
    using Index = __m512i;
    using Flags = __mmask16;

    static Floats load(const float* from) { return _mm512_loadu_ps(from); }

    static Floats load(const Half* from) {
        return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
    }

    static Floats load(const Brain* from) {
        return widen(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
    }

    static void store(float* to, Floats values) { _mm512_storeu_ps(to, values); }
    static Floats add(Floats a, Floats b) { return _mm512_add_ps(a, b); }
    static Index zero() { return _mm512_setzero_si512(); }

    template <std::size_t kCount>
    static Flags any_nan(const Floats (&values)[kCount]) {
        __mmask16 found = 0;
        FCNKIT_UNROLL
        for (std::size_t v = 0; v < kCount; v += 2) {  // unordered if either is NaN
            found |= _mm512_cmp_ps_mask(values[v], values[(v + 1) % kCount], _CMP_UNORD_Q);
        }
        return found;
    }

    static Flags either(Flags a, Flags b) { return static_cast<Flags>(a | b); }
    static bool none(Flags flags) { return flags == 0; }

    // The logits of class c join the best so far.
    static void keep_larger(Floats values, std::size_t c, Floats& best, Index& index) {
        const __mmask16 larger = _mm512_cmp_ps_mask(values, best, _CMP_GT_OQ);
        best = _mm512_max_ps(values, best);
        index = _mm512_mask_set1_epi32(index, larger, static_cast<int>(c));
    }

    static void store_labels(const Index (&index)[kVectors], std::uint8_t* labels) {
        FCNKIT_UNROLL
        for (std::size_t v = 0; v < kVectors; ++v) {
            _mm_storeu_si128(reinterpret_cast<__m128i*>(labels + v * kLanes),
                             _mm512_cvtepi32_epi8(index[v]));
        }
    }

    // Only the first lanes exist in memory.
    class Partial {
       public:
        explicit Partial(std::size_t size) : lanes_(static_cast<__mmask16>((1U << size) - 1)) {}

        Floats load(const float* from) const { return _mm512_maskz_loadu_ps(lanes_, from); }

        Floats load(const Half* from) const {
            return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(lanes_, from));
        }

        Floats load(const Brain* from) const {
            return widen(_mm256_maskz_loadu_epi16(lanes_, from));
        }

        void store_labels(const Index (&index)[1], std::uint8_t* labels) const {
            _mm_mask_storeu_epi8(labels, lanes_, _mm512_cvtepi32_epi8(index[0]));
        }

       private:
        __mmask16 lanes_;
    };

   private:
    static Floats widen(__m256i brains) {
        return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(brains), 16));
    }
};

// For upsample_argmax.
struct UpsampleVectors {
    static constexpr std::size_t kLanes = 16;
    static constexpr std::size_t kBlocks = 4;
    using Floats = __m512;
    using Mask = __mmask16;

    static Floats load(const float* from) { return _mm512_loadu_ps(from); }
    static void store(float* to, Floats values) { _mm512_storeu_ps(to, values); }
    static Floats broadcast(float value) { return _mm512_set1_ps(value); }
    static Floats add(Floats a, Floats b) { return _mm512_add_ps(a, b); }
    static Floats subtract(Floats a, Floats b) { return _mm512_sub_ps(a, b); }
    static Floats multiply(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
    static Floats smaller(Floats a, Floats b) { return _mm512_min_ps(a, b); }
    static Floats magnitude(Floats a) { return _mm512_abs_ps(a); }

    static Floats multiply_add(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
    static Mask greater(Floats a, Floats b) { return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ); }
    static std::uint64_t bits(Mask mask) { return mask; }

    static Floats select(Mask mask, Floats yes, Floats no) {
        return _mm512_mask_mov_ps(no, mask, yes);
    }

    // The first columns of each row of a leaf come from one strip of weights, the others from the
    // one behind.
    static Mask behind(std::size_t own) {
        return static_cast<Mask>((0xFF << own & 0xFF) * 0x0101);
    }

    static Floats join(Floats own, const float* other, Mask behind) {
        return _mm512_mask_loadu_ps(own, behind, other);
    }
};

}  // namespace
}  // namespace fcnkit::avx512
