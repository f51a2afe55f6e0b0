/* Atomics as the layers use them.  Every operation names its memory order; the
   few that are stronger or weaker than acquire/release say why where they stand.
   There are no stand-alone fences: ThreadSanitizer cannot see them. */
#ifndef CF_BASE_ATOMIC_H
#define CF_BASE_ATOMIC_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef _Atomic uint32_t cf_word;

#define cf_load_relaxed(p)      atomic_load_explicit((p), memory_order_relaxed)
#define cf_load_acquire(p)      atomic_load_explicit((p), memory_order_acquire)
#define cf_load_seq(p)          atomic_load_explicit((p), memory_order_seq_cst)
#define cf_store_relaxed(p, v)  atomic_store_explicit((p), (v), memory_order_relaxed)
#define cf_store_release(p, v)  atomic_store_explicit((p), (v), memory_order_release)
#define cf_store_seq(p, v)      atomic_store_explicit((p), (v), memory_order_seq_cst)

/* 1 in builds with a GIL: whoever takes a cell's lock or touches a task queue holds the
   GIL, so those callers take turns already and need no locked instructions among
   themselves.  Only what is also read or written without the GIL stays atomic: the
   "somebody sleeps" bit, the length of a queue, all of lot.h.  setup.py says which. */
#ifndef CF_SERIALIZED
#  define CF_SERIALIZED 0
#endif

/* Tell the processor that this is a busy wait. */
static inline void
cf_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("isb" ::: "memory");
#endif
}

/* Two fields that different threads write belong on different cache lines. */
#define CF_CACHE_LINE 64

#define cf_container_of(ptr, type, member) \
    ((type *)((char *)(ptr) - offsetof(type, member)))

#endif
