// AVX-512 encode: 64 pixels at a time. The hash is three bit matrices (GFNI), the lookup permutes.
#pragma once

namespace fcnkit::avx512 {
namespace {

struct Planes {
    __m512i red, green, blue;
};

// 192 interleaved bytes to three planes of 64: byte p of channel c is byte 3p + c of the 192. The
// first two registers hold bytes 0..127, a masked permutation adds those of the third.
class Unweave {
   public:
    Unweave() {
        for (int channel = 0; channel < 3; ++channel) {
            alignas(64) std::uint8_t from[64];
            third_[channel] = 0;
            for (int p = 0; p < 64; ++p) {
                const int byte = 3 * p + channel;
                from[p] = static_cast<std::uint8_t>(byte & 127);
                third_[channel] |= static_cast<std::uint64_t>(byte >= 128) << p;
            }
            from_[channel] = _mm512_load_si512(from);
        }
    }

    Planes operator()(const std::uint8_t* rgb) const {
        const __m512i a = _mm512_loadu_si512(rgb);
        const __m512i b = _mm512_loadu_si512(rgb + 64);
        const __m512i c = _mm512_loadu_si512(rgb + 128);
        return {plane(a, b, c, 0), plane(a, b, c, 1), plane(a, b, c, 2)};
    }

   private:
    __m512i plane(__m512i a, __m512i b, __m512i c, int channel) const {
        const __m512i two = _mm512_permutex2var_epi8(a, from_[channel], b);
        return _mm512_mask_permutexvar_epi8(two, third_[channel], from_[channel], c);
    }

    __m512i from_[3];
    __mmask64 third_[3];
};

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
    return i - known + Scalar::encode(rgb + 3 * i, n - i, encoder, unknown, labels + i);
}

std::size_t encode(const std::uint8_t* rgb, std::size_t n, const Encoder& encoder,
                   std::uint8_t unknown, std::uint8_t* labels) {
    switch (encoder.linear_tables) {
        case 1:
            return encode_with<1>(rgb, n, encoder, unknown, labels);
        case 2:
            return encode_with<2>(rgb, n, encoder, unknown, labels);
        default:
            return Scalar::encode(rgb, n, encoder, unknown, labels);
    }
}

struct Set : Loops<ColorVectors, GatherVectors, LogitVectors, UpsampleVectors> {
    static constexpr Encode* encode = avx512::encode;
};

}  // namespace
}  // namespace fcnkit::avx512
