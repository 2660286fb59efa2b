/*
 * Calls every function of the library. The test that runs it compares the output and the exit code.
 * An empty KERNEL is searched.
 *
 *   exercise contract DUMP KERNEL   return values and errors, with checks of its own
 *   exercise state DUMP KERNEL      what the scene of the test has, as text
 *   exercise procs DUMP KERNEL OP ARG
 *   exercise pages DUMP [KERNEL]
 *   exercise read DUMP KERNEL ADDRESS LENGTH
 *   exercise symbols DUMP KERNEL NAME...
 *   exercise threads DUMP KERNEL    many threads with one handle, which one of them closes
 *   exercise hostile FILE           every function on a file of any content
 */

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kvm.h"

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "exercise.c:%d: not true: %s\n", __LINE__, #condition);                \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

static char errbuf[_POSIX2_LINE_MAX];

static kvm_t *opened(const char *dump, const char *kernel) {
    kvm_t *kd = kvm_openfiles(kernel, dump, NULL, O_RDONLY, errbuf);
    if (kd == NULL) {
        fprintf(stderr, "exercise: %s\n", errbuf);
        exit(1);
    }
    return kd;
}

static unsigned long symbol(kvm_t *kd, const char *name) {
    struct nlist nl[2] = {{.n_name = name}, {.n_name = NULL}};
    return kvm_nlist(kd, nl) == 0 ? nl[0].n_value : 0;
}

/* Every function with a value that is no open handle. */
static void refused(kvm_t *kd) {
    struct nlist nl[2] = {{.n_name = "hz"}, {.n_name = NULL}};
    struct kvm_nlist nl2[2] = {{.n_name = "hz"}, {.n_name = NULL}};
    struct kinfo_proc process = {0};
    struct kvm_swap swap[2];
    long times[CPUSTATES];
    double loads[3];
    char byte;
    int count = 7;

    errno = 0;
    CHECK(kvm_close(kd) == -1 && errno == EINVAL);
    errno = 0;
    CHECK(kvm_nlist(kd, nl) == -1 && errno == EINVAL);
    CHECK(kvm_nlist2(kd, nl2) == -1);
    CHECK(kvm_read(kd, 0, &byte, 1) == -1);
    CHECK(kvm_read2(kd, 0, &byte, 1) == -1);
    CHECK(kvm_read_zpcpu(kd, 0, &byte, 1, 0) == -1);
    CHECK(kvm_write(kd, 0, &byte, 1) == -1);
    CHECK(kvm_walk_pages(kd, NULL, NULL) == 0);
    CHECK(kvm_native(kd) == 0);
    CHECK(kvm_kerndisp(kd) == 0);
    CHECK(kvm_getprocs(kd, KERN_PROC_PROC, 0, &count) == NULL && count == 7);
    CHECK(kvm_getargv(kd, &process, 0) == NULL);
    CHECK(kvm_getenvv(kd, &process, 0) == NULL);
    CHECK(kvm_getncpus(kd) == -1);
    CHECK(kvm_dpcpu_setcpu(kd, 0) == -1);
    CHECK(kvm_counter_u64_fetch(kd, 0) == 0);
    CHECK(kvm_getloadavg(kd, loads, 3) == -1);
    if (kd == NULL) {
        /* FreeBSD's library clears its caches. */
        CHECK(kvm_getmaxcpu(kd) == 0);
        CHECK(kvm_getpcpu(kd, 0) == NULL);
        CHECK(kvm_getcptime(kd, times) == 0);
        CHECK(kvm_getswapinfo(kd, swap, 2, 0) == 0);
        CHECK(strcmp(kvm_geterr(kd), "") == 0);
    } else {
        CHECK(kvm_getmaxcpu(kd) == -1);
        CHECK(kvm_getpcpu(kd, 0) == (void *)-1);
        CHECK(kvm_getcptime(kd, times) == -1);
        CHECK(kvm_getswapinfo(kd, swap, 2, 0) == -1);
        CHECK(strcmp(kvm_geterr(kd), "the kvm_t is not open") == 0);
    }
}

static char *printed; /* what went to standard error */

/* Opens with kvm_open and collects what it prints. */
static kvm_t *printing(const char *kernel, const char *dump, int flags, const char *name) {
    static char text[4096];
    int copy = dup(2);
    FILE *file = tmpfile();
    CHECK(copy >= 0 && file != NULL);
    dup2(fileno(file), 2);
    kvm_t *kd = kvm_open(kernel, dump, NULL, flags, name);
    dup2(copy, 2);
    close(copy);
    rewind(file);
    text[fread(text, 1, sizeof(text) - 1, file)] = '\0';
    fclose(file);
    printed = text;
    return kd;
}

static int resolved; /* calls of the resolver */
static kvm_t *resolving;

static int resolver(const char *name, kvaddr_t *address) {
    resolved++;
    /* A call of the library is permitted here. */
    CHECK(kvm_native(resolving) == 1);
    if (strcmp(name, "_answer") != 0)
        return 1;
    *address = 42;
    return 0;
}

static int count_pages(struct kvm_page *page, void *closure) {
    CHECK(page->kp_version == LIBKVM_WALK_PAGES_VERSION);
    return ++*(int *)closure < 3;
}

static void contract(const char *dump, const char *kernel) {
    kvm_t *kd, *second;
    char long_name[PATH_MAX];
    unsigned char bytes[64], again[64];

    /* Opening. */
    memset(long_name, 'a', 2000);
    long_name[2000] = '\0';
    struct {
        const char *kernel, *dump, *error;
        int flags;
    } bad[] = {
        {kernel, "/nonexistent", "/nonexistent: ", O_RDONLY},
        {"/nonexistent", dump, "/nonexistent: ", O_RDONLY},
        {kernel, kernel, "not a kernel dump", O_RDONLY},
        {dump, dump, "", O_RDONLY},
        {long_name, dump, "exec file name too long", O_RDONLY},
        {kernel, dump, "bad flags arg", O_CREAT},
        {kernel, dump, "bad flags arg", O_ACCMODE},
        {kernel, NULL, "/dev/mem: the running kernel is not supported", O_RDONLY},
        {NULL, "/dev/null", "/dev/null: the running kernel is not supported", O_RDONLY},
        {NULL, "/", "/: ", O_RDONLY},
        {NULL, "/dev/zero", "/dev/zero", O_RDONLY},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        errbuf[0] = '\0';
        CHECK(kvm_openfiles(bad[i].kernel, bad[i].dump, NULL, bad[i].flags, errbuf) == NULL);
        if (strstr(errbuf, bad[i].error) == NULL || errbuf[0] == '\0') {
            fprintf(stderr, "exercise: error %zu: %s\n", i, errbuf);
            exit(1);
        }
        CHECK(kvm_openfiles(bad[i].kernel, bad[i].dump, NULL, bad[i].flags, NULL) == NULL);
        char other[_POSIX2_LINE_MAX];
        CHECK(kvm_open2(bad[i].kernel, bad[i].dump, bad[i].flags, other, NULL) == NULL);
        CHECK(strcmp(errbuf, other) == 0);
        CHECK(printing(bad[i].kernel, bad[i].dump, bad[i].flags, NULL) == NULL);
        CHECK(strcmp(printed, "") == 0);
        CHECK(printing(bad[i].kernel, bad[i].dump, bad[i].flags, "prog") == NULL);
        CHECK(strncmp(printed, "prog: ", 6) == 0);
        CHECK(strncmp(printed + 6, errbuf, strlen(errbuf)) == 0);
        CHECK(strcmp(printed + 6 + strlen(errbuf), "\n") == 0);
    }

    /* A new handle has no error. */
    kd = kvm_openfiles(kernel, dump, NULL, O_RDWR, errbuf);
    CHECK(kd != NULL);
    CHECK(strcmp(kvm_geterr(kd), "") == 0);
    CHECK(kvm_native(kd) == 1);
    CHECK(kvm_kerndisp(kd) == 0);

    /* Symbols: with and without the underscore, in both widths, and a missing one. */
    struct nlist nl[] = {
        {.n_name = "hz"}, {.n_name = "_hz"}, {.n_name = "no_such_symbol", .n_value = 9}, {.n_name = ""}};
    struct kvm_nlist nl2[] = {
        {.n_name = "_hz"}, {.n_name = "no_such_symbol", .n_type = 9}, {.n_name = NULL}};
    CHECK(kvm_nlist(kd, nl) == 1);
    CHECK(nl[0].n_value != 0 && nl[0].n_value == nl[1].n_value);
    CHECK(nl[0].n_type == nl[1].n_type && (nl[0].n_type & N_EXT) != 0);
    CHECK(nl[2].n_type == N_UNDF && nl[2].n_value == 0);
    CHECK(kvm_nlist2(kd, nl2) == 1);
    CHECK(nl2[0].n_value == nl[0].n_value && nl2[0].n_type == nl[0].n_type);
    CHECK(nl2[1].n_type == N_UNDF && nl2[1].n_value == 0);
    struct nlist none[] = {{.n_name = NULL}};
    CHECK(kvm_nlist(kd, none) == 0);

    /* Memory. */
    int hz = 0;
    CHECK(kvm_read(kd, nl[0].n_value, &hz, sizeof(hz)) == sizeof(hz));
    CHECK(hz > 0 && hz <= 10000);
    CHECK(kvm_read(kd, nl[0].n_value, bytes, sizeof(bytes)) == sizeof(bytes));
    CHECK(kvm_read2(kd, nl[0].n_value, again, sizeof(again)) == sizeof(again));
    CHECK(memcmp(bytes, again, sizeof(bytes)) == 0);
    CHECK(kvm_read(kd, nl[0].n_value, NULL, 0) == 0);
    CHECK(kvm_read(kd, 1, bytes, 1) == -1);
    CHECK(strncmp(kvm_geterr(kd), "invalid address (0x1): ", 23) == 0);
    CHECK(kvm_read(kd, -1UL, bytes, 64) < 64);

    CHECK(kvm_write(kd, nl[0].n_value, &hz, sizeof(hz)) == -1);
    CHECK(strcmp(kvm_geterr(kd), "kvm_write not implemented for dead kernels") == 0);
    struct kinfo_proc process = {0};
    CHECK(kvm_getargv(kd, &process, 0) == NULL);
    CHECK(strcmp(kvm_geterr(kd), "cannot read user space from dead kernel") == 0);
    CHECK(kvm_getenvv(kd, &process, 0) == NULL);

    int pages = 0, count = 7;
    CHECK(kvm_walk_pages(kd, count_pages, &pages) == 0 && pages == 3);
    CHECK(kvm_walk_pages(kd, NULL, NULL) == 0);
    CHECK(kvm_getprocs(kd, 7, 0, &count) == NULL && count == 7);
    CHECK(strcmp(kvm_geterr(kd), "kvm_getprocs: unsupported operation 7") == 0);
    CHECK(kvm_getprocs(kd, KERN_PROC_PID, 99999, &count) == NULL && count == 0);

    /* With `errstr`, errors are printed, except that of an address. */
    second = printing(kernel, dump, O_RDONLY, "prog");
    CHECK(second != NULL && second != kd && strcmp(printed, "") == 0);
    CHECK(kvm_read(second, 1, bytes, 1) == -1);
    CHECK(strncmp(kvm_geterr(second), "invalid address", 15) == 0);
    CHECK(kvm_close(second) == 0);
    refused(second);

    /* A handle of a new dump is not that of the closed one. */
    kvm_t *third = opened(dump, kernel);
    CHECK(third != second);
    refused(second);
    CHECK(kvm_read(third, nl[0].n_value, &hz, sizeof(hz)) == sizeof(hz));
    CHECK(kvm_close(third) == 0);

    /* A resolver replaces the symbols of the kernel file. */
    resolving = kvm_open2(kernel, dump, O_RDONLY, errbuf, resolver);
    CHECK(resolving != NULL);
    struct kvm_nlist answer[] = {{.n_name = "_answer"}, {.n_name = "hz"}, {.n_name = NULL}};
    CHECK(kvm_nlist2(resolving, answer) == 1);
    CHECK(answer[0].n_value == 42 && answer[0].n_type == (N_DATA | N_EXT));
    CHECK(answer[1].n_value == 0 && answer[1].n_type == N_UNDF && resolved >= 2);
    CHECK(kvm_close(resolving) == 0);

    refused(NULL);
    refused((kvm_t *)1);
    refused((kvm_t *)&bytes);
    refused((kvm_t *)-16L);
    CHECK(kvm_close(kd) == 0);
    refused(kd);
    puts("contract kept");
}

static void state(const char *dump, const char *kernel) {
    kvm_t *kd = opened(dump, kernel);
    struct kvm_swap swap[4];
    long times[CPUSTATES];
    double loads[3];
    unsigned long counter;

    printf("maxcpu %d\n", kvm_getmaxcpu(kd));
    printf("ncpus %d\n", kvm_getncpus(kd));
    for (int cpu = -1; cpu < 4; cpu++) {
        unsigned char *pcpu = kvm_getpcpu(kd, cpu);
        if (pcpu == (void *)-1)
            printf("pcpu %d: %s\n", cpu, kvm_geterr(kd));
        else if (pcpu == NULL)
            printf("pcpu %d: none\n", cpu);
        else
            printf("pcpu %d: %02x\n", cpu, pcpu[0]);
        if (pcpu != (void *)-1)
            free(pcpu);
    }
    for (unsigned cpu = 0; cpu < 5; cpu++) {
        int done = kvm_dpcpu_setcpu(kd, cpu);
        printf("dpcpu %u: %d %#lx", cpu, done, symbol(kd, "_percpu"));
        printf(done == 0 ? "\n" : " %s\n", kvm_geterr(kd));
    }
    printf("vnet %#lx\n", symbol(kd, "_networks"));
    CHECK(kvm_read(kd, symbol(kd, "counter"), &counter, sizeof(counter)) == sizeof(counter));
    printf("counter %llu\n", (unsigned long long)kvm_counter_u64_fetch(kd, counter));
    for (int cpu = 0; cpu < 2; cpu++) {
        uint64_t part = 0;
        CHECK(kvm_read_zpcpu(kd, counter, &part, sizeof(part), cpu) == sizeof(part));
        printf("counter of %d: %llu\n", cpu, (unsigned long long)part);
    }
    CHECK(kvm_read_zpcpu(kd, counter, &counter, sizeof(counter), -1) == -1);
    if (kvm_getcptime(kd, times) == 0)
        printf("cptime %ld %ld %ld %ld %ld\n", times[0], times[1], times[2], times[3], times[4]);
    else
        printf("cptime: %s\n", kvm_geterr(kd));
    int count = kvm_getloadavg(kd, loads, 5);
    printf("loadavg %d", count);
    for (int i = 0; i < count; i++)
        printf(" %.2f", loads[i]);
    loads[1] = -1;
    CHECK(kvm_getloadavg(kd, loads, 1) == 1 && loads[1] == -1);
    CHECK(kvm_getloadavg(kd, loads, -1) == 0);
    for (int max = 0; max < 5; max++) {
        memset(swap, 0xff, sizeof(swap));
        int n = kvm_getswapinfo(kd, swap, max < 4 ? max : 4, max == 4 ? SWIF_DEV_PREFIX : 0);
        printf("\nswap %d: %d", max, n);
        for (int i = 0; i <= n; i++)
            printf(" [%.31s] %u/%u %#x", swap[i].ksw_devname, swap[i].ksw_used, swap[i].ksw_total,
                (unsigned)swap[i].ksw_flags);
    }
    puts("");
    CHECK(kvm_close(kd) == 0);
}

static void procs(const char *dump, const char *kernel, int op, int arg) {
    kvm_t *kd = opened(dump, kernel);
    int count = -1;
    struct kinfo_proc *kp = kvm_getprocs(kd, op, arg, &count);
    if (kp == NULL && count != 0)
        printf("error: %s\n", kvm_geterr(kd));
    for (int i = 0; kp != NULL && i < count; i++) {
        CHECK(kp[i].ki_structsize == sizeof(*kp));
        printf("pid %d ppid %d pgid %d sid %d tsid %d tpgid %d uid %u ruid %u svuid %u rgid %u svgid %u",
            kp[i].ki_pid, kp[i].ki_ppid, kp[i].ki_pgid, kp[i].ki_sid, kp[i].ki_tsid, kp[i].ki_tpgid,
            kp[i].ki_uid, kp[i].ki_ruid, kp[i].ki_svuid, kp[i].ki_rgid, kp[i].ki_svgid);
        printf(" groups");
        for (int g = 0; g < kp[i].ki_ngroups; g++)
            printf(" %u", kp[i].ki_groups[g]);
        printf(" jid %d cr %#x size %lu rss %ld t %ld d %ld s %ld", kp[i].ki_jid, kp[i].ki_cr_flags,
            kp[i].ki_size, kp[i].ki_rssize, kp[i].ki_tsize, kp[i].ki_dsize, kp[i].ki_ssize);
        printf(" xstat %#x acflag %#x runtime %llu swtime %u flag %#lx kiflag %ld stat %d nice %d",
            kp[i].ki_xstat, kp[i].ki_acflag, (unsigned long long)kp[i].ki_runtime, kp[i].ki_swtime,
            kp[i].ki_flag, kp[i].ki_kiflag, kp[i].ki_stat, kp[i].ki_nice);
        printf(" sig %x %x %x %x", kp[i].ki_siglist.__bits[0], kp[i].ki_sigmask.__bits[0],
            kp[i].ki_sigignore.__bits[0], kp[i].ki_sigcatch.__bits[3]);
        printf(" tdev %#llx cpu %d/%d pri %d/%d tid %d threads %d", (unsigned long long)kp[i].ki_tdev,
            kp[i].ki_oncpu, kp[i].ki_lastcpu, kp[i].ki_pri.pri_level, kp[i].ki_pri.pri_native,
            kp[i].ki_tid, kp[i].ki_numthreads);
        printf(" [%s] [%s%s] [%s] [%s] [%s] [%s]\n", kp[i].ki_comm, kp[i].ki_tdname,
            kp[i].ki_moretdname, kp[i].ki_wmesg, kp[i].ki_lockname, kp[i].ki_login, kp[i].ki_emul);
    }
    printf("%d records\n", count);
    CHECK(kvm_close(kd) == 0);
}

static int print_page(struct kvm_page *page, void *closure) {
    (void)closure;
    printf("%#llx %#llx %#llx %u %lld %#zx\n", (unsigned long long)page->kp_paddr,
        (unsigned long long)page->kp_kmap_vaddr, (unsigned long long)page->kp_dmap_vaddr,
        page->kp_prot, (long long)page->kp_offset, page->kp_len);
    return 1;
}

static int nothing(const char *name, kvaddr_t *address) {
    (void)name, (void)address;
    return 1;
}

static void pages(const char *dump, const char *kernel) {
    /* With a resolver, a minidump opens without its kernel. */
    kvm_t *kd = kvm_open2(kernel, dump, O_RDONLY, errbuf, nothing);
    if (kd == NULL) {
        fprintf(stderr, "exercise: %s\n", errbuf);
        exit(1);
    }
    CHECK(kvm_walk_pages(kd, print_page, NULL) == 1);
    CHECK(kvm_close(kd) == 0);
}

static void read_bytes(const char *dump, const char *kernel, uint64_t at, size_t len) {
    kvm_t *kd = opened(dump, kernel);
    unsigned char *bytes = malloc(len);
    CHECK(bytes != NULL);
    long got = kvm_read2(kd, at, bytes, len);
    printf("%ld\n", got);
    for (long i = 0; i < got; i++)
        printf("%02x", bytes[i]);
    if (got < (long)len)
        printf("\n%s", kvm_geterr(kd));
    puts("");
    free(bytes);
    CHECK(kvm_close(kd) == 0);
}

static void symbols(const char *dump, const char *kernel, int count, char **names) {
    kvm_t *kd = opened(dump, kernel);
    printf("native %d kerndisp %#llx\n", kvm_native(kd), (unsigned long long)kvm_kerndisp(kd));
    struct kvm_nlist *nl = calloc(count + 1, sizeof(*nl));
    CHECK(nl != NULL);
    for (int i = 0; i < count; i++)
        nl[i].n_name = names[i];
    printf("missing %d\n", kvm_nlist2(kd, nl));
    for (int i = 0; i < count; i++)
        printf("%s %u %#llx\n", nl[i].n_name, nl[i].n_type, (unsigned long long)nl[i].n_value);
    free(nl);
    if (!kvm_native(kd)) {
        struct nlist narrow[2] = {{.n_name = "hz"}, {.n_name = NULL}};
        CHECK(kvm_nlist(kd, narrow) == -1);
        CHECK(strcmp(kvm_geterr(kd), "kvm_nlist of non-native vmcore") == 0);
        int unused;
        CHECK(kvm_getprocs(kd, KERN_PROC_PROC, 0, &unused) == NULL);
        CHECK(strcmp(kvm_geterr(kd), "cannot read procs from non-native core") == 0);
    }
    CHECK(kvm_close(kd) == 0);
}

static pthread_barrier_t start;
static int expected_hz;

static void *reader(void *handle) {
    kvm_t *kd = handle;
    pthread_barrier_wait(&start);
    for (int i = 0;; i++) {
        unsigned long at = symbol(kd, "_hz");
        int hz;
        if (at == 0)
            break; /* closed */
        if (kvm_read(kd, at, &hz, sizeof(hz)) != sizeof(hz))
            break;
        CHECK(hz == expected_hz);
        char byte;
        CHECK(kvm_read(kd, 1 + i % 7, &byte, 1) == -1);
        const char *text = kvm_geterr(kd);
        CHECK(strncmp(text, "invalid address (0x", 19) == 0 || strcmp(text, "the kvm_t is not open") == 0);
        CHECK(kvm_getncpus(kd) != 0);
    }
    refused(kd);
    return NULL;
}

static void threads(const char *dump, const char *kernel) {
    enum { THREADS = 8 };
    pthread_t ids[THREADS];
    for (int round = 0; round < 20; round++) {
        kvm_t *kd = opened(dump, kernel);
        unsigned long at = symbol(kd, "hz");
        CHECK(kvm_read(kd, at, &expected_hz, sizeof(expected_hz)) == sizeof(expected_hz));
        CHECK(pthread_barrier_init(&start, NULL, THREADS + 1) == 0);
        for (int i = 0; i < THREADS; i++)
            CHECK(pthread_create(&ids[i], NULL, reader, kd) == 0);
        pthread_barrier_wait(&start);
        int count;
        for (int i = 0; i < 10; i++)
            CHECK(kvm_getprocs(kd, KERN_PROC_PROC, 0, &count) != NULL);
        CHECK(kvm_close(kd) == 0);
        CHECK(kvm_close(kd) == -1);
        for (int i = 0; i < THREADS; i++)
            CHECK(pthread_join(ids[i], NULL) == 0);
        pthread_barrier_destroy(&start);
    }
    puts("threads ended");
}

static int count_all(struct kvm_page *page, void *closure) {
    (void)page;
    return ++*(long *)closure < 1000000;
}

static void hostile(const char *file) {
    const char *kernels[] = {NULL, file};
    for (int i = 0; i < 2; i++) {
        errbuf[0] = '\0';
        kvm_t *kd = kvm_open2(kernels[i], file, O_RDONLY, errbuf, i == 0 ? nothing : NULL);
        if (kd == NULL) {
            CHECK(errbuf[0] != '\0');
            continue;
        }
        struct kvm_nlist nl[] = {{.n_name = "hz"}, {.n_name = NULL}};
        struct kvm_swap swap[2];
        long times[CPUSTATES], pages = 0;
        double loads[3];
        int count = 0;
        static char bytes[1 << 16];
        uint64_t at[] = {0, 0xffffffff80200000, 0xfffffe0000000000, 0xffff000000000000, 0xc0000000,
            0xffffffffffffffff, 0xfffff80000001000};

        kvm_nlist2(kd, nl);
        for (size_t n = 0; n < sizeof(at) / sizeof(at[0]); n++)
            CHECK(kvm_read2(kd, at[n], bytes, sizeof(bytes)) <= (long)sizeof(bytes));
        kvm_walk_pages(kd, count_all, &pages);
        kvm_getprocs(kd, KERN_PROC_ALL, 0, &count);
        kvm_getmaxcpu(kd), kvm_getncpus(kd), kvm_native(kd), kvm_kerndisp(kd);
        void *pcpu = kvm_getpcpu(kd, 0);
        if (pcpu != (void *)-1)
            free(pcpu);
        kvm_dpcpu_setcpu(kd, 1);
        kvm_counter_u64_fetch(kd, 8);
        kvm_read_zpcpu(kd, 8, bytes, 8, 1);
        kvm_getcptime(kd, times);
        kvm_getloadavg(kd, loads, 3);
        kvm_getswapinfo(kd, swap, 2, 0);
        CHECK(strlen(kvm_geterr(kd)) < _POSIX2_LINE_MAX);
        CHECK(kvm_close(kd) == 0);
    }
    puts("survived");
}

int main(int argc, char **argv) {
    const char *what = argc > 2 ? argv[1] : "";
    const char *dump = argc > 2 ? argv[2] : NULL;
    const char *kernel = argc > 3 && argv[3][0] != '\0' ? argv[3] : NULL;
    if (strcmp(what, "contract") == 0)
        contract(dump, kernel);
    else if (strcmp(what, "state") == 0)
        state(dump, kernel);
    else if (strcmp(what, "procs") == 0 && argc == 6)
        procs(dump, kernel, atoi(argv[4]), atoi(argv[5]));
    else if (strcmp(what, "pages") == 0)
        pages(dump, kernel);
    else if (strcmp(what, "read") == 0 && argc == 6)
        read_bytes(dump, kernel, strtoull(argv[4], NULL, 0), strtoull(argv[5], NULL, 0));
    else if (strcmp(what, "symbols") == 0)
        symbols(dump, kernel, argc - 4, argv + 4);
    else if (strcmp(what, "threads") == 0)
        threads(dump, kernel);
    else if (strcmp(what, "hostile") == 0)
        for (int i = 2; i < argc; i++)
            hostile(argv[i]);
    else
        return 64;
    return 0;
}
