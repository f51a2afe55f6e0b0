/* Memory that processes share: anonymous, sparse, nothing in the file system.  It is a
   file without a name; who has its descriptor can map it, and it is gone with the last
   descriptor and mapping, however their owners died. */
#ifndef CF_PLAT_SHM_H
#define CF_PLAT_SHM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

/* Those with a status return CF_OK or CF_SYSTEM (errno). */

/* A new one; its length is as large as the system allows (pages exist once written),
   not inherited over exec. */
cf_status cf_shm_create(int *fd);

/* Its length; 0 if the descriptor is something else (a pipe, a directory). */
cf_status cf_shm_length(int fd, uint64_t *length);

/* The first `bytes` of it, readable and writable, without reserving memory. */
cf_status cf_shm_map(int fd, size_t bytes, void **at);
void cf_shm_unmap(void *at, size_t bytes);

/* Copy into and out of the file without touching a mapping: for pages that nobody has
   mapped yet this saves a page fault each. */
cf_status cf_shm_write(int fd, uint64_t offset, const void *data, size_t size);
cf_status cf_shm_read(int fd, uint64_t offset, void *data, size_t size);

/* Map the pages of [at, at + size), which must be inside a mapping, in one step instead of
   a page fault each; with `write` those that do not exist yet are made.  A hint. */
void cf_shm_prefault(void *at, size_t size, bool write);

/* Give the whole pages inside [offset, offset + size) back to the system; they read as
   zeros afterwards. */
cf_status cf_shm_discard(int fd, uint64_t offset, uint64_t size);

/* Bytes in a page. */
uint64_t cf_shm_page(void);

#endif
