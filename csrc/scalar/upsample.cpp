// The portable kernels of upsample_argmax: the loops of generic/ over arrays of eight floats, which
// the compiler turns into what the processor has.
#include "kernel_set.hpp"
#include "target.hpp"

#include "generic/bound.hpp"
#include "generic/upsample.hpp"

namespace fcnkit {
namespace {

struct Vectors {
    static constexpr std::size_t kLanes = 8;
    static constexpr std::size_t kBlocks = 1;
    struct Floats {
        float at[kLanes];
    };
    struct Mask {
        bool at[kLanes];
    };

    template <class Body>
    static Floats each(const Body& body) {
        Floats result;
        for (std::size_t k = 0; k < kLanes; ++k) {
            result.at[k] = body(k);
        }
        return result;
    }

    static Floats load(const float* from) {
        return each([&](std::size_t k) { return from[k]; });
    }

    static void store(float* to, const Floats& values) {
        for (std::size_t k = 0; k < kLanes; ++k) {
            to[k] = values.at[k];
        }
    }

    static Floats broadcast(float value) {
        return each([&](std::size_t) { return value; });
    }

    static Floats add(const Floats& a, const Floats& b) {
        return each([&](std::size_t k) { return a.at[k] + b.at[k]; });
    }

    static Floats subtract(const Floats& a, const Floats& b) {
        return each([&](std::size_t k) { return a.at[k] - b.at[k]; });
    }

    static Floats multiply(const Floats& a, const Floats& b) {
        return each([&](std::size_t k) { return a.at[k] * b.at[k]; });
    }

    static Floats smaller(const Floats& a, const Floats& b) {
        return each([&](std::size_t k) { return a.at[k] < b.at[k] ? a.at[k] : b.at[k]; });
    }

    static Floats magnitude(const Floats& a) {
        return each([&](std::size_t k) { return a.at[k] < 0 ? -a.at[k] : a.at[k]; });
    }

    // Rounded once where the processor has such an instruction. Said explicitly because a compiler
    // may or may not use it for a * b + c, and labels must not depend on that.
    static Floats multiply_add(const Floats& a, const Floats& b, const Floats& c) {
#ifdef __FP_FAST_FMAF
        return each([&](std::size_t k) { return __builtin_fmaf(a.at[k], b.at[k], c.at[k]); });
#else
        return each([&](std::size_t k) { return a.at[k] * b.at[k] + c.at[k]; });
#endif
    }

    static Mask greater(const Floats& a, const Floats& b) {
        Mask mask;
        for (std::size_t k = 0; k < kLanes; ++k) {
            mask.at[k] = a.at[k] > b.at[k];
        }
        return mask;
    }

    static std::uint64_t bits(const Mask& mask) {
        std::uint64_t found = 0;
        for (std::size_t k = 0; k < kLanes; ++k) {
            found |= std::uint64_t{mask.at[k]} << k;
        }
        return found;
    }

    static Floats select(const Mask& mask, const Floats& yes, const Floats& no) {
        return each([&](std::size_t k) { return mask.at[k] ? yes.at[k] : no.at[k]; });
    }

    // The first columns of each row of a leaf come from one strip of weights, the others from the
    // one behind.
    static std::size_t behind(std::size_t own) { return own; }

    static Floats join(const Floats& own, const float* other, std::size_t from) {
        return each([&](std::size_t k) { return k < from ? own.at[k] : other[k]; });
    }
};

struct Nothing {};

}  // namespace

void Scalar::label_leaf(const Leaf& leaf, const std::uint64_t* contenders, std::uint8_t* labels) {
    UpsampleLoops<Vectors, Nothing>::label_leaf(leaf, contenders, labels);
}

void Scalar::leaf_logits(const Leaf& leaf, std::uint64_t blocks, float* logits) {
    UpsampleLoops<Vectors, Nothing>::leaf_logits(leaf, blocks, logits);
}

void Scalar::bound_part(const PartBound& part, PartAnswer& answer) {
    BoundLoops<Vectors, Nothing>::bound_part(part, answer);
}

}  // namespace fcnkit
