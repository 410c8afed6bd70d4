// Argmax over sums of logits, and the sums, over the registers of a set.
#pragma once

namespace fcnkit {
namespace {  // every set compiles its own

// For rows shorter than a block.
struct NoPrefetch {
    void begin_block(std::size_t) {}
    void fetch() {}
};

}  // namespace

// V works on registers of kLanes floats. A block is kVectors registers: pixels whose maxima stay in
// registers. V::Partial(m) loads and stores only the first m lanes; it is void where a set has no
// such instructions.
template <class V, class Base>
struct LogitLoops : Base {
    template <class T>
    static void argmax(const Views<T>& views, std::size_t n, std::uint8_t* labels) {
        if (views.count == 1) {
            argmax_row<true>(views, n, labels);
        } else {
            argmax_row<false>(views, n, labels);
        }
    }

    template <class T>
    static void accumulate(const T* row, std::size_t n, bool first, float* sums) {
        std::size_t x = 0;
        for (; x + V::kLanes <= n; x += V::kLanes) {
            const Floats values = V::load(row + x);
            V::store(sums + x, first ? values : V::add(V::load(sums + x), values));
        }
        Scalar::accumulate(row + x, n - x, first, sums + x);
    }

   private:
    using Floats = typename V::Floats;
    static constexpr std::size_t kBlock = V::kVectors * V::kLanes;

    // The logits of one class for kCount registers of pixels, summed over the views.
    template <std::size_t kCount, bool kSingle, class Memory, class T>
    static void load_class(const Memory& memory, const Views<T>& views, std::size_t offset,
                           Floats (&values)[kCount]) {
        FCNKIT_UNROLL
        for (std::size_t v = 0; v < kCount; ++v) {
            values[v] = memory.load(views.tiles[0] + offset + v * V::kLanes);
        }
        for (std::size_t t = 1; !kSingle && t < views.count; ++t) {
            FCNKIT_UNROLL
            for (std::size_t v = 0; v < kCount; ++v) {
                const Floats more = memory.load(views.tiles[t] + offset + v * V::kLanes);
                values[v] = V::add(values[v], more);
            }
        }
    }

    // Labels of kCount registers of pixels from x on. False if there is a NaN, which the
    // comparisons here do not honor.
    template <std::size_t kCount, bool kSingle, class Memory, class T, class Fetching>
    static bool argmax_block(const Memory& memory, const Views<T>& views, std::size_t x,
                             Fetching& prefetch, std::uint8_t* labels) {
        Floats best[kCount], values[kCount];
        typename V::Index index[kCount];
        prefetch.begin_block(x);
        prefetch.fetch();
        load_class<kCount, kSingle>(memory, views, x, best);
        typename V::Flags nan = V::any_nan(best);
        FCNKIT_UNROLL
        for (std::size_t v = 0; v < kCount; ++v) {
            index[v] = V::zero();
        }
        for (std::size_t c = 1; c < views.classes; ++c) {
            prefetch.fetch();
            load_class<kCount, kSingle>(memory, views, c * views.class_stride + x, values);
            nan = V::either(nan, V::any_nan(values));
            FCNKIT_UNROLL
            for (std::size_t v = 0; v < kCount; ++v) {
                V::keep_larger(values[v], c, best[v], index[v]);
            }
        }
        memory.store_labels(index, labels + x);
        return V::none(nan);
    }

    template <bool kSingle, class T>
    static void argmax_row(const Views<T>& views, std::size_t n, std::uint8_t* labels) {
        if (n < kBlock) {
            argmax_few<kSingle>(views, n, labels);
            return;
        }
        Prefetch<T, kBlock> prefetch(views, n);
        const auto block = [&](std::size_t x) {
            if (!argmax_block<V::kVectors, kSingle>(V(), views, x, prefetch, labels)) {
                Scalar::argmax_range(views, x, x + kBlock, labels);
            }
        };
        std::size_t x = 0;
        for (; x + kBlock <= n; x += kBlock) {
            block(x);
        }
        if (x < n) {
            block(n - kBlock);  // some pixels twice is faster than a few by themselves
        }
    }

    // Fewer pixels than a block.
    template <bool kSingle, class T>
    static void argmax_few(const Views<T>& views, std::size_t n, std::uint8_t* labels) {
        if constexpr (std::is_void_v<typename V::Partial>) {
            Scalar::argmax_range(views, 0, n, labels);
        } else {
            NoPrefetch none;
            for (std::size_t x = 0; x < n; x += V::kLanes) {
                const std::size_t size = n - x < V::kLanes ? n - x : V::kLanes;
                const typename V::Partial lanes(size);
                if (!argmax_block<1, kSingle>(lanes, views, x, none, labels)) {
                    Scalar::argmax_range(views, x, x + size, labels);
                }
            }
        }
    }
};

}  // namespace fcnkit
