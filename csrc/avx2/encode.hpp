// AVX2 encode for palettes that fit one linear table, 32 pixels at a time: hash and lookup are
// shuffles of 16 entries. Larger palettes take more of them than the portable loop takes time.
#pragma once

namespace fcnkit::avx2 {
namespace {

struct Planes {
    __m256i channel[3];
};

// 96 interleaved bytes to three planes of 32. Each half of a register takes 48 bytes by itself:
// byte p of channel c is byte 3p + c of those, in one of three registers.
class Unweave {
   public:
    Unweave()
        : from_([](int part, int channel, int k) {
              const int byte = 3 * k + channel - 16 * part;
              return byte >= 0 && byte < 16 ? byte : kNone;
          }) {}

    Planes operator()(const std::uint8_t* rgb) const {
        const __m256i first = halves(rgb), second = halves(rgb + 16), third = halves(rgb + 32);
        Planes planes;
        FCNKIT_UNROLL
        for (int c = 0; c < 3; ++c) {
            planes.channel[c] =
                _mm256_or_si256(_mm256_or_si256(_mm256_shuffle_epi8(first, from_.at[0][c]),
                                                _mm256_shuffle_epi8(second, from_.at[1][c])),
                                _mm256_shuffle_epi8(third, from_.at[2][c]));
        }
        return planes;
    }

   private:
    static __m256i halves(const std::uint8_t* from) {
        const auto* low = reinterpret_cast<const __m128i*>(from);
        const auto* high = reinterpret_cast<const __m128i*>(from + 48);
        return _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128(low)),
                                       _mm_loadu_si128(high), 1);
    }

    Shuffles from_;
};

// The hash is linear: what each half byte contributes is a table of 16, combined by xor.
__m256i hash_of(const Planes& planes, const LinearTable& table) {
    const __m256i half = _mm256_set1_epi8(15);
    __m256i hash = _mm256_setzero_si256();
    FCNKIT_UNROLL
    for (int c = 0; c < 3; ++c) {
        const __m256i low = _mm256_and_si256(planes.channel[c], half);
        const __m256i high = _mm256_and_si256(_mm256_srli_epi16(planes.channel[c], 4), half);
        hash = _mm256_xor_si256(hash, _mm256_shuffle_epi8(twice(table.half[c][0]), low));
        hash = _mm256_xor_si256(hash, _mm256_shuffle_epi8(twice(table.half[c][1]), high));
    }
    return hash;
}

// Indices for each of kParts tables of 16 slots: a shuffle answers 0 where the top bit is set, as
// it is for slots of other parts.
template <int kParts>
struct Slots {
    __m256i in_part[kParts];

    explicit Slots(__m256i hash) {
        FCNKIT_UNROLL
        for (int part = 0; part < kParts; ++part) {
            const __m256i start = _mm256_set1_epi8(static_cast<char>(16 * part));
            in_part[part] =
                _mm256_adds_epu8(_mm256_xor_si256(hash, start), _mm256_set1_epi8(0x70));
        }
    }

    __m256i look_up(const std::uint8_t* column) const {
        __m256i found = _mm256_shuffle_epi8(twice(column), in_part[0]);
        FCNKIT_UNROLL
        for (int part = 1; part < kParts; ++part) {
            const __m256i more = _mm256_shuffle_epi8(twice(column + 16 * part), in_part[part]);
            found = _mm256_or_si256(found, more);
        }
        return found;
    }
};

template <int kParts>
std::size_t encode_with(const std::uint8_t* rgb, std::size_t n, const Encoder& encoder,
                        std::uint8_t unknown, std::uint8_t* labels) {
    const LinearTable& table = encoder.linear[0];
    const Unweave unweave;
    const __m256i nobody = _mm256_set1_epi8(static_cast<char>(unknown));
    std::size_t known = 0, i = 0;
    for (; i + 32 <= n; i += 32) {
        const Planes planes = unweave(rgb + 3 * i);
        const Slots<kParts> slots(hash_of(planes, table));
        __m256i right = _mm256_set1_epi8(-1);
        FCNKIT_UNROLL
        for (int c = 0; c < 3; ++c) {
            const __m256i candidate = slots.look_up(table.channel[c]);
            right = _mm256_and_si256(right, _mm256_cmpeq_epi8(candidate, planes.channel[c]));
        }
        const __m256i found = _mm256_blendv_epi8(nobody, slots.look_up(table.label), right);
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(labels + i), found);
        const auto mask = static_cast<std::uint32_t>(_mm256_movemask_epi8(right));
        known += static_cast<std::size_t>(_mm_popcnt_u32(mask));
    }
    return i - known + Scalar::encode(rgb + 3 * i, n - i, encoder, unknown, labels + i);
}

std::size_t encode(const std::uint8_t* rgb, std::size_t n, const Encoder& encoder,
                   std::uint8_t unknown, std::uint8_t* labels) {
    if (encoder.linear_tables != 1) {
        return Scalar::encode(rgb, n, encoder, unknown, labels);
    }
    return encoder.linear[0].slots == 64 ? encode_with<4>(rgb, n, encoder, unknown, labels)
                                         : encode_with<8>(rgb, n, encoder, unknown, labels);
}

struct Set : Loops<ColorVectors, GatherVectors, LogitVectors, UpsampleVectors> {
    static constexpr Encode* encode = avx2::encode;
};

}  // namespace
}  // namespace fcnkit::avx2
