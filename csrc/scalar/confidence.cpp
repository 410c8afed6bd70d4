// Portable confidence: the loops that every set has, over portable sums.
#include <cstring>
#include <limits>

#include "kernel_set.hpp"
#include "target.hpp"

#include "generic/confidence.hpp"

namespace fcnkit {

template <class T>
void Scalar::confidence(const Views<T>& views, std::size_t n, float share, const Results& out) {
    ConfidenceLoop<Scalar>::confidence(views, n, share, out);
}

template void Scalar::confidence(const Views<float>&, std::size_t, float, const Results&);
template void Scalar::confidence(const Views<Half>&, std::size_t, float, const Results&);
template void Scalar::confidence(const Views<Brain>&, std::size_t, float, const Results&);

}  // namespace fcnkit
