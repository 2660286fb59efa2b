/*
 * Structures of FreeBSD's queue(3), tree(3) and locks with contents, for the tests of livecore.drgn.
 * The program is never run: drgn reads its data from the file.
 */

struct thread {
	int td_tid;
} __attribute__((aligned(32)));

struct thread owner = { 100 };

/* Lists. */
struct entry {
	int number;
	struct { struct entry *le_next; struct entry **le_prev; } list;
	struct { struct entry *sle_next; } slist;
	struct { struct entry *stqe_next; } stailq;
	struct { struct entry *tqe_next; struct entry **tqe_prev; } tailq;
};

struct entry third = { 3 };
struct entry second = { 2, { &third }, { &third }, { &third }, { &third } };
struct entry first = { 1, { &second }, { &second }, { &second }, { &second } };
struct { struct entry *lh_first; } list = { &first }, empty_list;
struct { struct entry *slh_first; } slist = { &first };
struct { struct entry *stqh_first; struct entry **stqh_last; } stailq = { &first };
struct { struct entry *tqh_first; struct entry **tqh_last; } tailq = { &first };

struct entry b;
struct entry a = { 1, { &b } }, b = { 2, { &a } };
struct { struct entry *lh_first; } circular = { &a };

/* A tree of 13.0 and later: parent with two flag bits, left, right. The numbers are in order. */
struct node {
	int number;
	struct { struct node *rbe_link[3]; } link;
};

extern struct node n1, n2, n3, n4, n5;
struct node n1 = { 1, { { (struct node *)((char *)&n2 + 1) } } };
struct node n2 = { 2, { { (struct node *)((char *)&n4 + 3), &n1, &n3 } } };
struct node n3 = { 3, { { &n2 } } };
struct node n4 = { 4, { { 0, &n2, &n5 } } };
struct node n5 = { 5, { { (struct node *)((char *)&n4 + 2) } } };
struct { struct node *rbh_root; } tree = { &n4 }, empty_tree;

/* A tree before 13.0. */
struct old_node {
	int number;
	struct {
		struct old_node *rbe_left, *rbe_right, *rbe_parent;
		int rbe_color;
	} link;
};

struct old_node o1 = { 1 }, o3 = { 3 };
struct old_node o2 = { 2, { &o1, &o3 } };
struct { struct old_node *rbh_root; } old_tree = { &o2 };

struct node loop = { 1, { { 0, &loop } } };
struct { struct node *rbh_root; } circular_tree = { &loop };

/* Locks. The flags are those of sys/mutex.h, sys/rwlock.h, sys/sx.h and sys/lockmgr.h. */
typedef unsigned long word;
#define OWNED(flags) ((word)((char *)&owner + (flags)))

struct mtx { volatile word mtx_lock; };
struct rwlock { volatile word rw_lock; };
struct sx { volatile word sx_lock; };
struct lock { volatile word lk_lock; };

struct mtx mtx_free = { 0 }, mtx_free_14 = { 4 }, mtx_owned = { OWNED(0) };
struct mtx mtx_contested = { OWNED(2 + 1) };
struct rwlock rw_free = { 1 }, rw_readers = { 3 << 5 | 1 }, rw_owned = { OWNED(0) };
struct rwlock rw_contested = { OWNED(2 + 4 + 16) };
struct sx sx_free = { 1 }, sx_sharers = { 7 << 5 | 1 | 4 }, sx_owned = { OWNED(8 + 16) };
struct lock lk_free = { 1 }, lk_sharers = { 2 << 5 | 1 }, lk_owned = { OWNED(4) };
struct lock lk_kernel = { ~(word)0x1f };

int
_start(void)
{
	return (0);
}
