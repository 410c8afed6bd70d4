// Compiling a region of a file for an instruction set, without compiler flags, so that nothing
// outside the region can use instructions that the machine may lack. Include headers before the
// region: what they define must stay portable.
#pragma once

#if defined(__x86_64__) || defined(_M_X64)
#define FCNKIT_X86 1
#else
#define FCNKIT_X86 0
#endif

#if defined(__aarch64__) || defined(_M_ARM64)
#define FCNKIT_NEON 1
#else
#define FCNKIT_NEON 0
#endif

#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ < 13
// GCC 12 warns about its own AVX-512 headers, which leave registers undefined on purpose
// (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif

#define FCNKIT_PRAGMA(text) _Pragma(#text)

// FCNKIT_INLINE: also where the optimizer would not. It has to be on functions that only prefetch:
// GCC finds that calls of those have no effect and drops them.
// FCNKIT_UNROLL: before a short loop over registers, which must not become a loop over memory.
#if defined(__GNUC__) || defined(__clang__)
#define FCNKIT_PREFETCH(address) __builtin_prefetch(address)
#else
#define FCNKIT_PREFETCH(address) static_cast<void>(address)
#endif

#if defined(__clang__)
#define FCNKIT_INLINE inline __attribute__((always_inline))
#define FCNKIT_UNROLL FCNKIT_PRAGMA(clang loop unroll(full))
#elif defined(__GNUC__)
#define FCNKIT_INLINE inline __attribute__((always_inline))
#define FCNKIT_UNROLL FCNKIT_PRAGMA(GCC unroll 16)
#else
#define FCNKIT_INLINE __forceinline
#define FCNKIT_UNROLL
#endif

#if defined(__clang__)
#define FCNKIT_TARGET_BEGIN(set) \
    FCNKIT_PRAGMA(clang attribute push(__attribute__((target(set))), apply_to = function))
#define FCNKIT_TARGET_END FCNKIT_PRAGMA(clang attribute pop)
#elif defined(__GNUC__)
#define FCNKIT_TARGET_BEGIN(set) FCNKIT_PRAGMA(GCC push_options) FCNKIT_PRAGMA(GCC target(set))
#define FCNKIT_TARGET_END FCNKIT_PRAGMA(GCC pop_options)
#else  // MSVC compiles every intrinsic anywhere
#define FCNKIT_TARGET_BEGIN(set)
#define FCNKIT_TARGET_END
#endif

// What the tables are made of. AVX-512 means Ice Lake, Zen 4 and newer.
#define FCNKIT_AVX2 "avx2,fma,f16c,popcnt"
#define FCNKIT_AVX512 "avx2,fma,f16c,popcnt,avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,gfni"
