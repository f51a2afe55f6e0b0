/* What functions below the Python line return; they never set an exception. */
#ifndef CF_BASE_STATUS_H
#define CF_BASE_STATUS_H

typedef enum {
    CF_OK = 0,
    CF_AGAIN,       /* the word had another value: look again */
    CF_TIMEDOUT,    /* the deadline has passed */
    CF_INTR,        /* a signal handler ran in this thread */
    CF_SYSTEM,      /* the system misbehaved; errno says how */
    CF_CORRUPT,     /* shared memory holds what cannot be: somebody scribbled over it */
} cf_status;

#endif
