Command exited with non-zero status 2
3.33 s 2.18 user 262712 KB
