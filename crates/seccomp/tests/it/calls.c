/* Makes the calls that its arguments name and prints what each returned: "NUMBER[,ARGUMENT]..." by the machine's own way,
 * "x86:NUMBER[,ARGUMENT]..." by 32-bit x86's (int 0x80), which 64-bit programs can use too. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static long by_interrupt(long number, const long *a)
{
#ifdef __x86_64__
    long result;
    __asm__ volatile("int $0x80"
                     : "=a"(result)
                     : "a"(number), "b"(a[0]), "c"(a[1]), "d"(a[2]), "S"(a[3]), "D"(a[4])
                     : "memory", "r8", "r9", "r10", "r11");
    return (int)result;
#else
    (void)number;
    (void)a;
    return -ENOSYS;
#endif
}

int main(int argc, char **argv)
{
    for (int at = 1; at < argc; at++) {
        char *text = argv[at];
        int x86 = !strncmp(text, "x86:", 4);
        long words[7] = { 0 };
        int count = 0;
        for (char *word = strtok(text + (x86 ? 4 : 0), ","); word && count < 7; word = strtok(NULL, ","))
            words[count++] = strtoul(word, NULL, 0);
        long result = x86 ? by_interrupt(words[0], words + 1)
                          : syscall(words[0], words[1], words[2], words[3], words[4], words[5], words[6]);
        if (!x86 && result == -1)
            result = -errno;
        printf("%ld\n", result);
        fflush(stdout);
    }
    return 0;
}
