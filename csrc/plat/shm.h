/* Memory that processes share: anonymous, sparse, nothing in the file system.  It is a
   file without a name; who has its descriptor can map it, and it is gone with the last
   descriptor and mapping, however their owners died. */
#ifndef CF_PLAT_SHM_H
#define CF_PLAT_SHM_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

/* Those with a status return CF_OK or CF_SYSTEM (errno). */

/* A new one; its length is as large as the system allows (pages exist once written),
   not inherited over exec. */
cf_status cf_shm_create(int *fd);

/* Which file a descriptor is.  Programs close descriptors that are not theirs, and the
   number is then given to another file. */
typedef struct {
    uint64_t length;            /* 0: it is something else (a pipe, a directory) */
    uint64_t device, inode;
} cf_shm_identity;

cf_status cf_shm_identify(int fd, cf_shm_identity *identity);

/* The first `bytes` of it, readable and writable, without reserving memory. */
cf_status cf_shm_map(int fd, size_t bytes, void **at);
void cf_shm_unmap(void *at, size_t bytes);
/* In a mapping made so: [at, at + bytes) becomes the process's own.  What it writes there
   nobody else sees from now on; what it has not written follows the file. */
cf_status cf_shm_make_private(int fd, void *at, uint64_t offset, size_t bytes);

/* Copy into and out of the file without touching a mapping: for pages that nobody has
   mapped yet this saves a page fault each. */
cf_status cf_shm_write(int fd, uint64_t offset, const void *data, size_t size);
cf_status cf_shm_read(int fd, uint64_t offset, void *data, size_t size);

/* Make the pages of [at, at + size), which must be inside a mapping, ready to be written,
   in one step instead of a page fault each.  CF_SYSTEM: the system cannot (before Linux
   5.14), or has no memory. */
cf_status cf_shm_prefault(void *at, size_t size);

/* Give the whole pages inside [offset, offset + size) back to the system; they read as
   zeros afterwards. */
cf_status cf_shm_discard(int fd, uint64_t offset, uint64_t size);

/* Bytes in a page. */
uint64_t cf_shm_page(void);

#endif
