// The registers of AVX2, for the loops of generic/.
#pragma once

namespace fcnkit::avx2 {
namespace {

__m256i twice(const std::uint8_t* sixteen) {
    return _mm256_broadcastsi128_si256(
        _mm_loadu_si128(reinterpret_cast<const __m128i*>(sixteen)));
}

// Nine shuffles within the halves of a register: byte k of the one of a part and a channel is byte
// source(part, channel, k), or zero where that is kNone.
constexpr int kNone = 0x80;
struct Shuffles {
    __m256i at[3][3];

    template <class Source>
    explicit Shuffles(const Source& source) {
        for (int part = 0; part < 3; ++part) {
            for (int channel = 0; channel < 3; ++channel) {
                alignas(16) std::uint8_t from[16];
                for (int k = 0; k < 16; ++k) {
                    from[k] = static_cast<std::uint8_t>(source(part, channel, k));
                }
                at[part][channel] = twice(from);
            }
        }
    }
};

// For decode and overlay: 32 pixels at a time, palettes of up to 32 colors. Larger palettes take
// more lookups than the portable loop takes time.
struct ColorVectors {
    static constexpr std::size_t kPixels = 32;
    using Bytes = __m256i;
    using Flags = __m256i;  // bytes of ones
    struct Pixels {
        Bytes part[3];
    };

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
        Weave()
            : from_([](int part, int channel, int k) {
                  const int byte = 16 * part + k;
                  return byte % 3 == channel ? byte / 3 : kNone;
              }) {}

        Pixels operator()(const Pixels& channels) const {
            __m256i woven[3];
            FCNKIT_UNROLL
            for (int k = 0; k < 3; ++k) {
                woven[k] = _mm256_or_si256(
                    _mm256_or_si256(_mm256_shuffle_epi8(channels.part[0], from_.at[k][0]),
                                    _mm256_shuffle_epi8(channels.part[1], from_.at[k][1])),
                    _mm256_shuffle_epi8(channels.part[2], from_.at[k][2]));
            }
            return {{_mm256_permute2x128_si256(woven[0], woven[1], 0x20),
                     _mm256_permute2x128_si256(woven[2], woven[0], 0x30),
                     _mm256_permute2x128_si256(woven[1], woven[2], 0x31)}};
        }

        // Which bytes of the pixels belong to void. A palette this small always has it.
        Pixels void_bytes(Bytes labels, bool) const {
            const Flags nothing = is_void(labels);
            return (*this)({{nothing, nothing, nothing}});
        }

       private:
        Shuffles from_;
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

// For gather: eight pixels at a time, four from each of two loads of 16 bytes.
class GatherVectors {
   public:
    static constexpr std::size_t kPixels = 8, kReads = 28;
    using Pixels = __m256i;

    explicit GatherVectors(const Normalize& normalize) {
        for (int c = 0; c < 3; ++c) {
            from_[c] = lanes_of(c);
            scale_[c] = _mm256_set1_ps(normalize.scale[c]);
            bias_[c] = _mm256_set1_ps(normalize.bias[c]);
        }
    }

    static Pixels load(const std::uint8_t* rgb) {
        const auto* at = reinterpret_cast<const __m128i*>(rgb);
        const auto* next = reinterpret_cast<const __m128i*>(rgb + 12);
        return _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128(at)),
                                       _mm_loadu_si128(next), 1);
    }

    void store(float* to, Pixels pixels, int channel) const {
        _mm256_storeu_ps(to, normalized(pixels, channel));
    }

    void store(std::uint16_t* to, Pixels pixels, int channel) const {
        const __m256 values = normalized(pixels, channel);
        _mm_storeu_si128(reinterpret_cast<__m128i*>(to),
                         _mm256_cvtps_ph(values, _MM_FROUND_TO_NEAREST_INT));
    }

   private:
    // Puts the byte of a channel of each of four pixels into a 32-bit lane, in both halves.
    static __m256i lanes_of(int channel) {
        alignas(16) std::uint8_t from[16];
        for (int k = 0; k < 16; ++k) {
            from[k] = static_cast<std::uint8_t>(k % 4 == 0 ? 3 * (k / 4) + channel : 0x80);
        }
        return twice(from);
    }

    __m256 normalized(Pixels pixels, int c) const {
        const __m256i lanes = _mm256_shuffle_epi8(pixels, from_[c]);
        return _mm256_fmadd_ps(_mm256_cvtepi32_ps(lanes), scale_[c], bias_[c]);
    }

    __m256i from_[3];
    __m256 scale_[3], bias_[3];
};

// For argmax and the sums of logits.
struct LogitVectors {
    static constexpr std::size_t kLanes = 8;
    static constexpr std::size_t kVectors = 4;
    using Partial = void;
    using Floats = __m256;
    using Index = __m256i;
    using Flags = __m256;

    static Floats load(const float* from) { return _mm256_loadu_ps(from); }

    static Floats load(const Half* from) {
        return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
    }

    static Floats load(const Brain* from) {
        const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
        return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
    }

    static void store(float* to, Floats values) { _mm256_storeu_ps(to, values); }
    static Floats add(Floats a, Floats b) { return _mm256_add_ps(a, b); }
    static Index zero() { return _mm256_setzero_si256(); }

    static Flags any_nan(const Floats (&values)[kVectors]) {  // unordered if either is NaN
        return _mm256_or_ps(_mm256_cmp_ps(values[0], values[1], _CMP_UNORD_Q),
                            _mm256_cmp_ps(values[2], values[3], _CMP_UNORD_Q));
    }

    static Flags either(Flags a, Flags b) { return _mm256_or_ps(a, b); }
    static bool none(Flags flags) { return _mm256_movemask_ps(flags) == 0; }

    // The logits of class c join the best so far.
    static void keep_larger(Floats values, std::size_t c, Floats& best, Index& index) {
        const __m256 larger = _mm256_cmp_ps(values, best, _CMP_GT_OQ);
        const __m256i label = _mm256_set1_epi32(static_cast<int>(c));
        best = _mm256_max_ps(values, best);
        index = _mm256_blendv_epi8(index, label, _mm256_castps_si256(larger));
    }

    static void store_labels(const Index (&index)[kVectors], std::uint8_t* labels) {
        // Packing works within the halves of registers, so groups of four end up out of order.
        const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
        const __m256i bytes = _mm256_packus_epi16(_mm256_packs_epi32(index[0], index[1]),
                                                  _mm256_packs_epi32(index[2], index[3]));
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(labels),
                            _mm256_permutevar8x32_epi32(bytes, order));
    }
};

// For upsample_argmax.
struct UpsampleVectors {
    static constexpr std::size_t kLanes = 8;
    static constexpr std::size_t kBlocks = 3;
    using Floats = __m256;
    using Mask = __m256;

    static Floats load(const float* from) { return _mm256_loadu_ps(from); }
    static void store(float* to, Floats values) { _mm256_storeu_ps(to, values); }
    static Floats broadcast(float value) { return _mm256_set1_ps(value); }
    static Floats add(Floats a, Floats b) { return _mm256_add_ps(a, b); }
    static Floats subtract(Floats a, Floats b) { return _mm256_sub_ps(a, b); }
    static Floats multiply(Floats a, Floats b) { return _mm256_mul_ps(a, b); }
    static Floats smaller(Floats a, Floats b) { return _mm256_min_ps(a, b); }

    static Floats magnitude(Floats a) {
        return _mm256_andnot_ps(_mm256_set1_ps(-0.0F), a);
    }

    static Floats multiply_add(Floats a, Floats b, Floats c) { return _mm256_fmadd_ps(a, b, c); }
    static Mask greater(Floats a, Floats b) { return _mm256_cmp_ps(a, b, _CMP_GT_OQ); }

    static std::uint64_t bits(Mask mask) {
        return static_cast<std::uint64_t>(_mm256_movemask_ps(mask));
    }

    static Floats select(Mask mask, Floats yes, Floats no) {
        return _mm256_blendv_ps(no, yes, mask);
    }

    // The first columns of each row of a leaf come from one strip of weights, the others from the
    // one behind.
    static Mask behind(std::size_t own) {
        const __m256i column = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
        const __m256i last = _mm256_set1_epi32(static_cast<int>(own) - 1);
        return _mm256_castsi256_ps(_mm256_cmpgt_epi32(column, last));
    }

    static Floats join(Floats own, const float* other, Mask behind) {
        return select(behind, load(other), own);
    }
};

}  // namespace
}  // namespace fcnkit::avx2
