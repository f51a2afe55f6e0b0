/* make perturb: time is lost before the steps at which threads and processes meet.

   A race that needs two threads between two particular instructions shows up once in a
   million rounds; if one of them may sleep there, once in a thousand.  The build includes
   this file ahead of all others: each atomic operation that is not relaxed, and each
   compare-and-exchange, first calls perturb(), in the engine and in the tests.

   The operations are written with GCC's builtins, since the macros of <stdatomic.h> cannot
   be used in macros of the same name. */
#ifndef CF_TESTS_PERTURB_H
#define CF_TESTS_PERTURB_H

/* Before any header of libc is read; what it is for, the files that ask for it say. */
#ifndef _GNU_SOURCE
#  define _GNU_SOURCE
#endif

#include <stdatomic.h>
#include <stdint.h>

#ifdef __clang__
#  error "make perturb needs CC=gcc: clang has other builtins for _Atomic"
#endif

/* Most often nothing; now and then yield, or sleep 50 to 3000 microseconds. */
void perturb(void);

/* Start the naps of this process; those of its threads and children differ. */
void perturb_seed(uint64_t seed);

#define perturb_before(order) ((order) == memory_order_relaxed ? (void)0 : perturb())

#undef atomic_load_explicit
#define atomic_load_explicit(p, order) \
    (perturb_before(order), __atomic_load_n((p), (order)))

#undef atomic_store_explicit
#define atomic_store_explicit(p, value, order) \
    (perturb_before(order), __atomic_store_n((p), (value), (order)))

#undef atomic_exchange_explicit
#define atomic_exchange_explicit(p, value, order) \
    (perturb_before(order), __atomic_exchange_n((p), (value), (order)))

#undef atomic_fetch_add_explicit
#define atomic_fetch_add_explicit(p, value, order) \
    (perturb_before(order), __atomic_fetch_add((p), (value), (order)))

#undef atomic_fetch_sub_explicit
#define atomic_fetch_sub_explicit(p, value, order) \
    (perturb_before(order), __atomic_fetch_sub((p), (value), (order)))

#undef atomic_fetch_or_explicit
#define atomic_fetch_or_explicit(p, value, order) \
    (perturb_before(order), __atomic_fetch_or((p), (value), (order)))

#undef atomic_fetch_and_explicit
#define atomic_fetch_and_explicit(p, value, order) \
    (perturb_before(order), __atomic_fetch_and((p), (value), (order)))

#undef atomic_compare_exchange_strong_explicit
#define atomic_compare_exchange_strong_explicit(p, expected, value, order, failed) \
    (perturb(), __atomic_compare_exchange_n((p), (expected), (value), 0, (order), (failed)))

#undef atomic_compare_exchange_weak_explicit
#define atomic_compare_exchange_weak_explicit(p, expected, value, order, failed) \
    (perturb(), __atomic_compare_exchange_n((p), (expected), (value), 1, (order), (failed)))

#endif
