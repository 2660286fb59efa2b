/*
 * A kernel that never runs. It contains the variables and types that readers of dumps use, so that a
 * compiler generates debug information for them. The builder writes two headers for the release of
 * the machine: layout.h, with structures and sizes, and functions.h, with a function for each name
 * on the stacks of the machine.
 */

#include "layout.h"

#define LOCAL static __attribute__((used))

/* Kernel identification. */
char version[] = VERSION;
char ostype[] = "FreeBSD";
char osrelease[] = OSRELEASE;
int osreldate = OSRELDATE;
const char sccs[] = "@(#)" VERSION;
int hz = 1000;

/* Offsets for debuggers that have no debug information. */
const int pcb_size = sizeof(struct pcb);
const int proc_off_p_pid = __builtin_offsetof(struct proc, p_pid);
const int proc_off_p_comm = __builtin_offsetof(struct proc, p_comm);
const int proc_off_p_list = __builtin_offsetof(struct proc, p_list);
const int proc_off_p_threads = __builtin_offsetof(struct proc, p_threads);
const int thread_off_td_tid = __builtin_offsetof(struct thread, td_tid);
const int thread_off_td_name = __builtin_offsetof(struct thread, td_name);
const int thread_off_td_oncpu = __builtin_offsetof(struct thread, td_oncpu);
const int thread_off_td_pcb = __builtin_offsetof(struct thread, td_pcb);
const int thread_off_td_plist = __builtin_offsetof(struct thread, td_plist);
const int kld_off_address = __builtin_offsetof(struct linker_file, address);
const int kld_off_filename = __builtin_offsetof(struct linker_file, filename);
const int kld_off_pathname = __builtin_offsetof(struct linker_file, pathname);
const int kld_off_next = __builtin_offsetof(struct linker_file, link);

/* Memory. */
struct pmap kernel_pmap_store;
unsigned long kernel_vm_end;
unsigned long dump_avail[DUMP_AVAIL];
unsigned long phys_avail[DUMP_AVAIL];
unsigned long *vm_page_dump;
struct vm_phys_seg vm_phys_segs[PHYSSEG_MAX];
int vm_phys_nsegs;
struct vm_page *vm_page_array;
long vm_page_array_size;
long first_page;
long physmem;
long Maxmem;

/* Messages, names and times. */
struct msgbuf *msgbufp;
struct prison prison0;
const char *panicstr;
LOCAL char buf[256];
long time_second;
long time_uptime;

/* Processes. */
struct proclist allproc;
LOCAL struct pcb dumppcb;
int dumptid;
int dumping;
KDB_ACTIVE kdb_active;
LOCAL struct pcb kdb_pcb;
struct thread *kdb_thread;
unsigned long stopped_cpus[STOPPED_CPUS / 8];
unsigned int mp_maxid;
int mp_ncpus;
LOCAL struct linker_file_list linker_files;
struct linker_file *linker_kernel_file;

#ifdef STOPPCBS_ARRAY
struct pcb stoppcbs[MAXCPU];
#else
struct pcb *stoppcbs;
#endif

#ifdef P_HASH
const int proc_off_p_hash = __builtin_offsetof(struct proc, p_hash);
struct proclist *pidhashtbl;
unsigned long pidhash;
long vm_page_dump_pages;
#else
struct proclist zombproc;
int vm_page_dump_size;
#endif

/* amd64. */
unsigned long KPML4phys;
unsigned long KPDPphys;
unsigned long dmaplimit;
int nkpt;
int pti;
int la57;
unsigned long virtual_avail;
unsigned long crashdumpmap;
#ifdef KERNPHYS_VARIABLE
unsigned long kernphys = 1;
#endif

#include "functions.h"
